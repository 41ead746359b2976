use super::*;
use crate::{
    config_files::ConfigFiles,
    data::DataDir,
    rotation::Authorities,
    token::{self, TokenAsk},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    task::spawn,
};

#[tokio::test]
async fn silent_connections_make_place_and_a_known_caller_keeps_its_own() {
    let (plane, listener) = (plane(), TcpListener::bind("127.0.0.1:0").await.unwrap());
    let address = listener.local_addr().unwrap();
    let limits = Limits { connections_max: 8, unproven_max: 2 };
    let server = spawn(run(listener, Arc::clone(&plane), None, limits));
    let connect = async || TcpStream::connect(address).await.unwrap();

    let ask = TokenAsk {
        namespace: "default".into(),
        service_account: "cart".into(),
        services: Vec::new(),
        ttl: Duration::from_secs(60),
    };
    let token =
        token::mint(&plane.token_key, plane.authorities.standing().current.pin(), &ask, SystemTime::now())
            .unwrap();
    let mut known = connect().await;
    assert_eq!(status(&mut known, "/v1/status", &token).await, "HTTP/1.1 200 OK");

    let mut silent = Vec::new();
    for _ in 0..12 {
        silent.push(connect().await);
        if silent.len() > 2 {
            // The one before the last two: it is told to go, long before its time is up.
            let ended = timeout(HEADER_LIMIT / 2, silent.remove(0).read(&mut [0; 8])).await;
            assert!(matches!(ended, Ok(Ok(0) | Err(_))), "a silent connection keeps its place: {ended:?}");
        }
    }
    assert_eq!(status(&mut connect().await, "/v1/status", &token).await, "HTTP/1.1 200 OK");
    assert_eq!(status(&mut known, "/v1/status", &token).await, "HTTP/1.1 200 OK");
    server.abort();
}

/// Asks for `path` and returns the status line of the answer, which is small enough for one read.
async fn status(stream: &mut TcpStream, path: &str, token: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = vec![0; 64 * 1024];
    let read = stream.read(&mut answer).await.unwrap();
    String::from_utf8_lossy(&answer[..read]).lines().next().unwrap_or_default().to_owned()
}

fn plane() -> Arc<Plane> {
    let data = DataDir::temporary().unwrap();
    let domain = "cluster.local".parse().unwrap();
    let ttl = Duration::from_secs(3600);
    let authorities = Authorities::open(&data, &domain, ttl, SystemTime::now()).unwrap();
    let mut files = ConfigFiles::open(Vec::new(), &data).unwrap();
    files.poll();
    Arc::new(Plane::open(data, authorities, &files, true).unwrap())
}
