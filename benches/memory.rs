//! What a configuration of 10,000 services of 10 endpoints and 20,000 routes holds in memory: its objects, and one
//! workload's compiler and snapshot of it.

#![allow(clippy::expect_used, reason = "a bench has nobody to return an error to")]

#[path = "support/many.rs"]
mod many;

use many::{resources, settings, viewer};
use mesh::core::{health::States, snapshot::Compiler};

fn main() {
    let mut objects = Vec::new();
    let of_objects = allocation_counter::measure(|| {
        objects = resources(10_000, 10);
        objects.sort_by(|a, b| a.key.cmp(&b.key));
    });
    let states = States::default();
    let mut compiled = None;
    let of_compiled = allocation_counter::measure(|| {
        let mut compiler = Compiler::new(viewer());
        let snapshot = compiler.compile("1", &objects, &settings(), &states).0;
        compiled = Some((compiler, snapshot));
    });
    let mebibytes = |bytes: i64| bytes as f64 / f64::from(1 << 20);
    println!("objects             {:>6.1} MiB", mebibytes(of_objects.bytes_current));
    println!("compiler, snapshot  {:>6.1} MiB", mebibytes(of_compiled.bytes_current));
    println!("most while compiling {:>5.1} MiB", mebibytes(of_compiled.bytes_max as i64));
}
