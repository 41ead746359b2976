//! gRPC over the mesh: tonic's client and server with mutual TLS, retries, deadlines and limits, and no transport of
//! tonic's own.
//!
//! A shop counts, watches and packs what a warehouse has; `warehouse.yaml` says how it is called. Every step is checked,
//! and the exit status says whether all of it held.

mod shelf;
mod warehouse;
mod world;

use crate::{
    warehouse::{Item, WarehouseClient},
    world::{Server, World},
};
use futures_util::stream;
use std::{error::Error, time::Duration};
use tonic::{Code, Request};

type Failed = Box<dyn Error + Send + Sync>;

const YAML: &str = include_str!("warehouse.yaml");

#[tokio::main]
async fn main() -> Result<(), Failed> {
    let world = World::start(YAML).await?;
    let server = world.serve("berlin").await?;
    let mut client = world.client();
    call(&world, &mut client).await?;
    pack(&mut client).await?;
    miss_a_deadline(&mut client).await?;
    cancel(&world, &mut client).await?;
    outlive(&world, server).await?;
    world.end().await;
    println!("every step held");
    Ok(())
}

/// A unary call. The server is busy twice, and says so in a status; `retryOn: resource-exhausted` tries again.
async fn call(world: &World, client: &mut WarehouseClient) -> Result<(), Failed> {
    world.shelf().refuse(2);
    let stock = client.count(item(0)).await?.into_inner();
    println!("count   {} left, told by {} at attempt {}", stock.left, stock.server, stock.attempt);
    held(stock.attempt == 3, "two refusals are two retries")
}

/// A stream in both directions: each item is answered before the next is sent.
async fn pack(client: &mut WarehouseClient) -> Result<(), Failed> {
    let items = stream::iter([item(1), item(2), item(3)]);
    let mut stocks = client.pack(items).await?.into_inner();
    let mut left = Vec::new();
    while let Some(stock) = stocks.message().await? {
        left.push(stock.left);
    }
    println!("pack    {left:?} left");
    held(left == [99, 97, 94], "every item is answered, in order")
}

/// A stream from the server, ended by the `grpc-timeout` of its caller: the mesh ends it here and there.
async fn miss_a_deadline(client: &mut WarehouseClient) -> Result<(), Failed> {
    let mut request = Request::new(item(0));
    request.set_timeout(Duration::from_millis(500));
    let mut stocks = client.watch(request).await?.into_inner();
    let first = stocks.message().await?;
    let status = stocks.message().await.err().ok_or("nothing changed, and there was no deadline")?;
    println!(
        "watch   {} left, then {:?}: {}",
        first.unwrap_or_default().left,
        status.code(),
        status.message()
    );
    held(status.code() == Code::DeadlineExceeded, "the deadline is the caller's")
}

/// Two streams are all that `http2MaxRequests: 2` lets be under way. One that is dropped makes room at once.
async fn cancel(world: &World, client: &mut WarehouseClient) -> Result<(), Failed> {
    let (first, second) = (client.watch(item(0)).await?, client.watch(item(0)).await?);
    let status = client.count(item(0)).await.err().ok_or("a third call passed a limit of two")?;
    println!("count   {:?}: {}", status.code(), status.message());
    held(status.code() == Code::Unavailable, "a limit refuses at once")?;
    drop(first);
    let stock = client.count(item(0)).await?.into_inner();
    println!("count   {} left, in the place of a stream that was dropped", stock.left);
    drop(second);
    world.shelf().is_left_alone().await;
    Ok(())
}

/// A stream outlives an edit of the configuration, and the server's own notice: who calls anew gets another server.
async fn outlive(world: &World, berlin: Server) -> Result<(), Failed> {
    let mut client = world.client();
    let mut stocks = client.watch(item(0)).await?.into_inner();
    stocks.message().await?;
    world.edit(&YAML.replace("attempts: 2", "attempts: 1")).await?;
    let paris = world.serve("paris").await?;
    world.retire(&berlin).await?;
    let called = client.count(item(0)).await?.into_inner();
    world.shelf().take(94);
    let last = stocks.message().await?.ok_or("the stream ended with its server's notice")?;
    println!("watch   {} left, still told by {}; new calls go to {}", last.left, last.server, called.server);
    berlin.drain().await?;
    paris.drain().await?;
    held(
        (&*last.server, &*called.server) == ("berlin", "paris"),
        "a drain waits for streams, and takes no calls",
    )
}

fn item(pieces: u32) -> Item {
    Item { name: "lamp".to_owned(), pieces }
}

fn held(held: bool, what: &str) -> Result<(), Failed> {
    if held { Ok(()) } else { Err(format!("this does not hold: {what}").into()) }
}
