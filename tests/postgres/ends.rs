//! Servers that are stopped, killed, or lose the process that started them.

use std::io::{BufRead, BufReader, Read};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};

use url::Url;

use crate::postgres::server::{Options, Server, Shutdown};
use crate::{prepared, words, write};

#[tokio::test]
async fn committed_data_survives_every_kind_of_shutdown() {
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
        let uncommitted = database.connect().await;
        uncommitted.batch_execute("BEGIN").await.unwrap();
        write(&uncommitted, "uncommitted").await.unwrap();

        server.stop(how).await;
        assert!(words(&connection).await.is_err(), "connections stay open after {how:?}");
        assert!(
            TcpStream::connect(("127.0.0.1", server.port())).is_err(),
            "the server still listens after {how:?}"
        );
        server.start_again().await;
        assert_eq!(words(&database.connect().await).await.unwrap(), committed, "{how:?}");
    }
    server.restart(Shutdown::Fast).await;
    assert_eq!(words(&database.connect().await).await.unwrap(), committed);
}

/// The process that the next test starts and kills. It tests nothing itself.
#[tokio::test]
#[ignore = "started by another test, which kills it"]
async fn an_owner() {
    let server = Server::start(Options::default()).await;
    println!("\n{}", server.socket_url("postgres"));
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
}

#[test]
fn a_server_stops_when_its_owner_is_killed() {
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
    // The supervisor keeps the output open until its cleanup is done.
    output.read_to_end(&mut Vec::new()).unwrap();
    assert!(TcpStream::connect(address).is_err());
    assert!(!Path::new(&folder).exists());
}
