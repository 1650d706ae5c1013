//! Servers that are stopped, killed, and left alone.

use std::io::{BufRead, BufReader, Read};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};

use url::Url;

use crate::postgres::server::{Options, Server, Shutdown};
use crate::{prepared, words, write};

#[tokio::test]
async fn what_was_committed_is_there_after_any_end() {
    let mut server = Server::start(Options::default()).await;
    let database = server.fresh_database().await;
    drop(prepared(database.url()).await);
    let mut committed = Vec::new();
    for (how, word) in
        [(Shutdown::Fast, "fast"), (Shutdown::Immediate, "immediate"), (Shutdown::Kill, "kill")]
    {
        let connection = database.connect().await;
        write(&connection, word).await.unwrap();
        committed.push(word);
        let half_done = database.connect().await;
        half_done.batch_execute("BEGIN").await.unwrap();
        write(&half_done, "half").await.unwrap();

        server.stop(how).await;
        assert!(words(&connection).await.is_err(), "{how:?} leaves connections standing");
        assert!(TcpStream::connect(("127.0.0.1", server.port())).is_err(), "{how:?} leaves it listening");
        server.start_again().await;
        assert_eq!(words(&database.connect().await).await.unwrap(), committed, "{how:?}");
    }
    server.restart(Shutdown::Fast).await;
    assert_eq!(words(&database.connect().await).await.unwrap(), committed);
}

/// Not a test: what the next one kills.
#[tokio::test]
#[ignore = "waits for its end"]
async fn an_owner() {
    let server = Server::start(Options::default()).await;
    println!("\n{}", server.socket_url("postgres"));
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
}

#[test]
fn a_server_goes_with_its_owner_however_that_ended() {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "ends::an_owner", "--ignored", "--nocapture"]);
    let mut owner = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut output = BufReader::new(owner.stdout.take().unwrap());
    let url =
        output.by_ref().lines().map(Result::unwrap).find(|line| line.starts_with("postgres://")).unwrap();
    let url: Url = url.parse().unwrap();
    let folder = url.host_str().unwrap().replace("%2F", "/");
    let address = ("127.0.0.1", url.port().unwrap());
    assert!(TcpStream::connect(address).is_ok() && Path::new(&folder).exists());

    owner.kill().unwrap();
    owner.wait().unwrap();
    // Whoever cleans up holds the output open until it is done.
    output.read_to_end(&mut Vec::new()).unwrap();
    assert!(TcpStream::connect(address).is_err());
    assert!(!Path::new(&folder).exists());
}
