//! What changes meanwhile: the weather, the leases, the files.

use crate::{
    call::Call,
    day::{Day, Event, Key, Served},
    files::{self, Edit, SERVICES},
    process::{Edition, Weather, some_weather},
};
use mesh_core::{dice::Dice, retry::Outcome};
use std::{collections::BTreeMap, sync::Arc};

impl Day {
    pub(crate) fn on_weather(&mut self) {
        if self.gap.is_none() {
            return;
        }
        let server = 2 + self.dice.below(self.processes.len() as u64 - 2) as usize;
        let weather = some_weather(&mut self.dice);
        self.set_weather(server, weather);
        if weather == Weather::Down && self.one_in(3) {
            self.restart(server);
        }
        let wait = self.millis(10, 500);
        self.after(wait, Event::WeatherChange);
    }

    pub(crate) fn set_weather(&mut self, server: usize, weather: Weather) {
        self.processes[server].weather = weather;
        if weather == Weather::Down {
            let at_it = |(key, served): (&Key, &Served)| (served.server == server).then_some(*key);
            let broken: Vec<_> = self.served.iter().filter_map(at_it).collect();
            for key in broken {
                self.cancel(key);
                self.reply(key, Outcome::Reset { sent: true });
            }
        }
    }

    /// A process is started anew: nobody waits for what it did.
    fn restart(&mut self, server: usize) {
        let of_it = |(id, call): (&u64, &Call)| (call.caller == server).then_some(*id);
        let orphans: Vec<_> = self.calls.iter().filter_map(of_it).collect();
        orphans.into_iter().for_each(|id| self.drop_call(id));
        self.check();
        self.processes[server].restart(self.now);
        self.tally.restarts += 1;
    }

    /// Somebody's lease ends, or begins again, perhaps with another version. The last of a service stays.
    pub(crate) fn on_lease(&mut self) {
        if self.gap.is_none() {
            return;
        }
        let server = 2 + self.dice.below(self.processes.len() as u64 - 2) as usize;
        let tier = self.processes[server].tier;
        let others = self.processes.iter().filter(|it| it.tier == tier && it.lease.is_some()).count();
        let version = ["v1", "v2"][self.dice.below(2) as usize];
        let process = &mut self.processes[server];
        process.lease = match process.lease {
            Some(_) if others > 1 => None,
            _ => Some(version),
        };
        self.publish();
        let wait = self.millis(10, 700);
        self.after(wait, Event::LeaseChange);
    }

    pub(crate) fn on_edit(&mut self) {
        if self.gap.is_none() {
            return;
        }
        match self.files.edit(&mut self.dice) {
            Edit::Good => self.tally.good_edits += 1,
            Edit::Bad => self.tally.bad_edits += 1,
            Edit::Gone => {}
        }
        self.publish();
        let wait = self.millis(10, 400);
        self.after(wait, Event::FileEdit);
    }

    /// Everybody hears of the configuration as it stands, each in its own time.
    fn publish(&mut self) {
        let mut leases: BTreeMap<_, _> = SERVICES.map(|service| (service, BTreeMap::new())).into();
        for process in &self.processes {
            if let (Some(tier), Some(version)) = (process.tier, process.lease)
                && let Some(leases) = leases.get_mut(SERVICES[tier])
            {
                leases.insert(process.address.clone(), version);
            }
        }
        for (service, leases) in &leases {
            self.files.write(service, files::entry(service, leases));
        }
        self.edition = Arc::new(Edition::of(self.edition.number + 1, &mut self.files, leases));
        for process in 0..self.processes.len() {
            let (wait, edition) = (self.millis(0, 100), Arc::clone(&self.edition));
            self.after(wait, Event::Heard(process, edition));
        }
    }

    pub(crate) fn on_heard(&mut self, process: usize, edition: &Arc<Edition>) {
        let is_compared = self.one_in(4);
        let process = &mut self.processes[process];
        if edition.number <= process.edition.number {
            return;
        }
        process.on_edition(edition, self.now);
        self.tally.reloads += 1;
        if is_compared {
            process.check_compiled();
        }
    }

    pub(crate) fn last_edit(&self) -> &str {
        &self.files.last_edit
    }
}
