//! gRPC over the mesh, by tonic's own client and server: what `examples/grpc` shows, and what happens to a stream.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed, helpers included")]

#[path = "../examples/grpc/shelf.rs"]
mod shelf;
#[path = "../examples/grpc/warehouse.rs"]
mod warehouse;
#[path = "../examples/grpc/world.rs"]
mod world;

use crate::{
    warehouse::{Item, Stock, WarehouseClient},
    world::World,
};
use futures_util::stream;
use std::time::Duration;
use tonic::{Code, Request, Streaming};

type Failed = Box<dyn std::error::Error + Send + Sync>;

const YAML: &str = include_str!("../examples/grpc/warehouse.yaml");

#[tokio::test]
async fn a_refusal_in_the_headers_is_tried_again_as_the_rule_says_and_no_oftener() {
    let world = World::start(YAML).await.unwrap();
    let server = world.serve("berlin").await.unwrap();
    let mut client = world.client();
    world.shelf().refuse(2);
    assert_eq!(count(&mut client).await, stock(100, "berlin", 3));

    world.shelf().refuse(3);
    let refused = client.count(item(0)).await.unwrap_err();
    assert_eq!((refused.code(), refused.message()), (Code::ResourceExhausted, "somebody else is counting"));

    world.edit(&YAML.replace("unavailable,resource-exhausted", "unavailable")).await.unwrap();
    world.shelf().refuse(1);
    assert_eq!(client.count(item(0)).await.unwrap_err().code(), Code::ResourceExhausted);
    assert_eq!(count(&mut client).await.attempt, 1);
    server.drain().await.unwrap();
    world.end().await;
}

#[tokio::test]
async fn a_stream_in_both_directions_is_answered_item_by_item() {
    let world = World::start(YAML).await.unwrap();
    let server = world.serve("berlin").await.unwrap();
    let (items, packed) = tokio::sync::mpsc::unbounded_channel();
    let outbound = stream::unfold(packed, async |mut packed| Some((packed.recv().await?, packed)));
    let mut client = world.client();
    items.send(item(1)).unwrap();
    let mut stocks = client.pack(outbound).await.unwrap().into_inner();
    for (pieces, left) in [(2, 99), (3, 97), (0, 94)] {
        assert_eq!(next(&mut stocks).await, stock(left, "berlin", 1));
        items.send(item(pieces)).unwrap();
    }
    assert_eq!(next(&mut stocks).await.left, 94);
    drop(items);
    assert_eq!(stocks.message().await.unwrap(), None);
    server.drain().await.unwrap();
    world.end().await;
}

#[tokio::test]
async fn a_deadline_that_passes_ends_a_stream_with_its_own_status_and_nobody_watches_on() {
    let world = World::start(YAML).await.unwrap();
    let server = world.serve("berlin").await.unwrap();
    let mut client = world.client();
    let mut request = Request::new(item(0));
    request.set_timeout(Duration::from_secs(2));
    let mut stocks = client.watch(request).await.unwrap().into_inner();
    assert_eq!(next(&mut stocks).await.left, 100);
    assert_eq!(stocks.message().await.unwrap_err().code(), Code::DeadlineExceeded);
    world.shelf().is_left_alone().await;
    server.drain().await.unwrap();
    world.end().await;
}

#[tokio::test]
async fn a_stream_that_is_dropped_makes_room_for_the_next_call() {
    let world = World::start(YAML).await.unwrap();
    let server = world.serve("berlin").await.unwrap();
    let mut client = world.client();
    let first = client.watch(item(0)).await.unwrap();
    let second = client.watch(item(0)).await.unwrap();
    assert_eq!(client.count(item(0)).await.unwrap_err().code(), Code::Unavailable);
    drop(first);
    assert_eq!(count(&mut client).await.left, 100);
    drop(second);
    world.shelf().is_left_alone().await;
    server.drain().await.unwrap();
    world.end().await;
}

#[tokio::test]
async fn a_stream_survives_an_edit_and_a_drain() {
    let world = World::start(YAML).await.unwrap();
    let berlin = world.serve("berlin").await.unwrap();
    let mut client = world.client();
    let mut stocks = client.watch(item(0)).await.unwrap().into_inner();
    assert_eq!(next(&mut stocks).await, stock(100, "berlin", 1));

    world.edit(&YAML.replace("attempts: 2", "attempts: 1")).await.unwrap();
    world.shelf().take(1);
    assert_eq!(next(&mut stocks).await, stock(99, "berlin", 1));

    let paris = world.serve("paris").await.unwrap();
    world.retire(&berlin).await.unwrap();
    assert_eq!(count(&mut client).await, stock(99, "paris", 1));
    world.shelf().take(1);
    assert_eq!(next(&mut stocks).await, stock(98, "berlin", 1));
    world.shelf().take(98);
    assert_eq!(next(&mut stocks).await.left, 0);
    assert_eq!(stocks.message().await.unwrap(), None);
    berlin.drain().await.unwrap();
    paris.drain().await.unwrap();
    world.end().await;
}

async fn count(client: &mut WarehouseClient) -> Stock {
    client.count(item(0)).await.unwrap().into_inner()
}

async fn next(stocks: &mut Streaming<Stock>) -> Stock {
    stocks.message().await.unwrap().unwrap()
}

fn item(pieces: u32) -> Item {
    Item { name: "lamp".to_owned(), pieces }
}

fn stock(left: u32, server: &str, attempt: u32) -> Stock {
    Stock { left, server: server.to_owned(), attempt }
}
