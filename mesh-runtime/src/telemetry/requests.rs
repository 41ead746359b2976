//! What became of the requests between two workloads: a histogram per response code and set of response flags.

use super::{
    histogram::Histogram,
    text::{Labels, Text},
};
use mesh_core::event::Flags;
use std::{sync::OnceLock, time::Duration};

/// The recorder of the requests to one destination, or from one peer. Held by whoever sends or serves them.
#[derive(Debug)]
pub struct RequestMetrics {
    labels: Labels,
    /// A cell per known code; what was never answered takes no room.
    codes: Box<[OnceLock<Box<Series>>]>,
}

/// The requests of one code and one set of flags, and the next set seen with that code.
#[derive(Debug)]
struct Series {
    /// `None` for every set that came after too many others.
    flags: Option<Flags>,
    durations: Histogram,
    next: OnceLock<Box<Series>>,
}

impl RequestMetrics {
    pub(super) fn new(labels: Labels) -> Self {
        Self { labels, codes: (0..CELLS).map(|_| OnceLock::new()).collect() }
    }

    /// Records the end of a request: the status the caller saw (0 if it went away before one), Envoy's response flags,
    /// and the time from its start.
    pub fn on_answer(&self, status: u16, flags: Flags, duration: Duration) {
        self.series(status, flags).durations.on_duration(duration);
        if !flags.is_empty() || status >= 500 {
            tracing::debug!(status, %flags, ?duration, labels = self.labels.as_str(), "request failed");
        }
    }

    fn series(&self, status: u16, flags: Flags) -> &Series {
        let mut cell = &self.codes[cell(status)];
        for _ in 0..FLAG_SETS_MAX {
            let series = cell.get_or_init(|| Series::new(Some(flags)));
            if series.flags == Some(flags) {
                return series;
            }
            cell = &series.next;
        }
        cell.get_or_init(|| Series::new(None))
    }

    pub(super) fn render_totals(&self, text: &mut Text) {
        self.each(|labels, series| text.sample(labels, series.durations.count()));
    }

    pub(super) fn render_durations(&self, text: &mut Text) {
        self.each(|labels, series| {
            let reading = series.durations.read();
            text.histogram(labels, &reading.cumulative, reading.sum_millis);
        });
    }

    fn each(&self, mut visit: impl FnMut(&Labels, &Series)) {
        for (number, cell) in self.codes.iter().enumerate() {
            let mut cell = cell;
            while let Some(series) = cell.get() {
                visit(&series.labels(&self.labels, number), series);
                cell = &series.next;
            }
        }
    }
}

impl Series {
    fn new(flags: Option<Flags>) -> Box<Self> {
        Box::new(Self { flags, durations: Histogram::default(), next: OnceLock::new() })
    }

    fn labels(&self, labels: &Labels, number: usize) -> Labels {
        let flags = match self.flags {
            // Envoy's word for no flag.
            Some(flags) if flags.is_empty() => "-".to_owned(),
            Some(flags) => flags.to_string(),
            None => "other".to_owned(),
        };
        let code = CODES.get(number).map_or_else(|| "other".to_owned(), u16::to_string);
        labels
            .clone()
            .with("request_protocol", "http")
            .with("response_code", &code)
            .with("response_flags", &flags)
    }
}

/// Returns the cell of a status; those that no standard names share the last one.
fn cell(status: u16) -> usize {
    CODES.binary_search(&status).unwrap_or(CODES.len())
}

const CELLS: usize = CODES.len() + 1;

/// A code comes with few sets of flags; a peer cannot choose them, but a bound costs nothing.
const FLAG_SETS_MAX: usize = 8;

// spec: iana http-status-codes; 0 is the caller that went away, as in Envoy's access log
const CODES: [u16; 63] = [
    0, 100, 101, 102, 103, 200, 201, 202, 203, 204, 205, 206, 207, 208, 226, 300, 301, 302, 303, 304, 305,
    307, 308, 400, 401, 402, 403, 404, 405, 406, 407, 408, 409, 410, 411, 412, 413, 414, 415, 416, 417, 418,
    421, 422, 423, 424, 425, 426, 428, 429, 431, 451, 499, 500, 501, 502, 503, 504, 505, 507, 508, 510, 511,
];

#[cfg(test)]
mod tests {
    use super::*;
    use mesh_core::event::Flag;

    #[test]
    fn every_code_has_its_cell_and_what_is_no_code_shares_one() {
        assert!(CODES.is_sorted());
        assert!(CODES.iter().enumerate().all(|(number, &code)| cell(code) == number));
        for odd in [1, 99, 299, 599, 600, 999, u16::MAX] {
            assert_eq!(cell(odd), CODES.len());
        }
    }

    #[test]
    fn answers_are_told_apart_by_code_and_flags_up_to_a_bound() {
        let metrics = RequestMetrics::new(Labels::new());
        let sets = (0..16).map(|n| if n & 1 == 0 { Flags::NONE } else { Flag::UF.into() });
        sets.for_each(|flags| metrics.on_answer(503, flags, Duration::ZERO));
        assert_eq!(series(&metrics), ["503 - 8", "503 UF 8"]);

        let flags =
            [Flag::UH, Flag::UO, Flag::NR, Flag::URX, Flag::NC, Flag::UT, Flag::DC, Flag::LR, Flag::UR];
        flags.into_iter().for_each(|flag| metrics.on_answer(503, flag.into(), Duration::ZERO));
        let series = series(&metrics);
        assert_eq!(series.len(), FLAG_SETS_MAX + 1);
        assert_eq!(series.last().map(String::as_str), Some("503 other 3"));
    }

    #[test]
    fn no_answer_is_lost_when_many_threads_record_the_first_ones() {
        let metrics = RequestMetrics::new(Labels::new());
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let metrics = &metrics;
                scope.spawn(move || {
                    for n in 0..1000_u16 {
                        let flags = if (n + thread) % 3 == 0 { Flag::UF.into() } else { Flags::NONE };
                        metrics.on_answer(200 + n % 5, flags, Duration::ZERO);
                    }
                });
            }
        });
        let mut total = 0;
        metrics.each(|_, series| total += series.durations.count());
        assert_eq!(total, 4000);
    }

    fn series(metrics: &RequestMetrics) -> Vec<String> {
        let mut seen = Vec::new();
        metrics.each(|labels, series| {
            let text = labels.as_str();
            let value = |name: &str| {
                let (_, rest) = text.split_once(&format!("{name}=\"")).unwrap();
                rest.split_once('"').unwrap().0.to_owned()
            };
            seen.push(format!(
                "{} {} {}",
                value("response_code"),
                value("response_flags"),
                series.durations.count()
            ));
        });
        seen
    }
}
