//! The peer of `get_analysis`: a handler that returns the same bytes without any check.

use std::net::TcpListener;
use std::process::{Child, Command, ExitCode};

use actix_web::{App, HttpResponse, HttpServer, web};

/// A running peer. Dropping it stops the process.
pub(crate) struct Bare {
    pub(crate) url: String,
    process: Child,
}

impl Drop for Bare {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Starts the peer as a separate process on the first core.
pub(crate) fn start(body: &str) -> Bare {
    let port = free_port();
    let program = std::env::current_exe().expect("this program");
    let process = Command::new("taskset")
        .args(["-c", "0"])
        .arg(program)
        .args(["bare", &port.to_string(), body])
        .spawn()
        .expect("taskset is needed");
    let url = format!("http://127.0.0.1:{port}/");
    let mut bare = Bare { url, process };
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(matches!(bare.process.try_wait(), Ok(None)), "the peer ended");
    }
    bare
}

/// Serves until the process is killed.
pub(crate) fn serve(port: &str, body: &str) -> ExitCode {
    let port: u16 = port.parse().expect("a port");
    let body = web::Bytes::from(body.to_owned());
    let run = actix_web::rt::System::new().block_on(async move {
        HttpServer::new(move || {
            let body = body.clone();
            App::new().default_service(web::to(move || {
                let body = body.clone();
                async move { HttpResponse::Ok().content_type("application/json").body(body) }
            }))
        })
        .workers(1)
        .bind(("127.0.0.1", port))?
        .run()
        .await
    });
    run.map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS)
}

pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    listener.local_addr().expect("its address").port()
}
