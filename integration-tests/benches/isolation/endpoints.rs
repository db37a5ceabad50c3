//! Ten thousand endpoints in one process: the addresses of the loopback network, on one port.

use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use pointsman_integration_tests::load::micros_since_sent;
use tokio::net::TcpListener;
use tokio::sync::watch;

/// Endpoints that share the last part but one of their addresses.
const IN_A_ROW: u32 = 250;

/// The address of an endpoint.
pub fn address(number: u32) -> Ipv4Addr {
    let part = |number: u32| u8::try_from(number).expect("an endpoint's number is small");
    Ipv4Addr::new(127, 1, part(number / IN_A_ROW), part(1 + number % IN_A_ROW))
}

/// The endpoint of an address; none of that by which all are told what to do.
fn number(address: IpAddr) -> Option<u32> {
    let IpAddr::V4(address) = address else {
        return None;
    };
    let [_, 1, row, place] = address.octets() else {
        return None;
    };
    Some(u32::from(row) * IN_A_ROW + u32::from(place).checked_sub(1)?)
}

/// What all endpoints know.
struct Known {
    /// One in so many endpoints hangs; none where it is 0.
    hanging_of: watch::Sender<u32>,
    /// Which endpoint got an event, and how long that was on its way, in microseconds.
    took: Mutex<Vec<(u32, u64)>>,
}

/// Answers at every address until the process ends.
pub async fn serve(port: u16) {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port))
        .await
        .expect("the port is free");
    let known = Arc::new(Known {
        hanging_of: watch::channel(0).0,
        took: Mutex::default(),
    });
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            continue;
        };
        let _ = stream.set_nodelay(true);
        let own = stream.local_addr().ok().and_then(|own| number(own.ip()));
        let known = Arc::clone(&known);
        tokio::spawn(async move {
            let service = service_fn(|request| answer(own, Arc::clone(&known), request));
            let connection = hyper::server::conn::http1::Builder::new();
            // Whoever calls may break off.
            let _ = connection
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

async fn answer(
    own: Option<u32>,
    known: Arc<Known>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let body = match own {
        None => Bytes::from(told(&known, request.uri().path())),
        Some(own) => {
            called(own, &known, request).await;
            Bytes::new()
        }
    };
    Ok(Response::new(Full::new(body)))
}

/// An event has come to an endpoint, which answers or hangs.
async fn called(own: u32, known: &Known, request: Request<Incoming>) {
    let took = request.headers().get("ce-id").and_then(micros_since_sent);
    // A caller that breaks off is not answered.
    let _ = request.into_body().collect().await;
    if let Some(took) = took {
        let mut all = known.took.lock().expect("no panic while it is held");
        all.push((own, took));
    }
    let mut hanging_of = known.hanging_of.subscribe();
    let answers = |of: &u32| *of == 0 || !own.is_multiple_of(*of);
    // It ends with the process alone.
    let _ = hanging_of.wait_for(answers).await;
}

/// Does what the benchmark says.
fn told(known: &Known, path: &str) -> String {
    let mut took = known.took.lock().expect("no panic while it is held");
    match path.trim_start_matches('/') {
        "begin" => took.clear(),
        "answer" => drop(known.hanging_of.send_replace(0)),
        "took" => {
            let lines = took.iter().map(|(own, micros)| format!("{own} {micros}\n"));
            return lines.collect();
        }
        other => {
            let of = other.strip_prefix("hang/").and_then(|of| of.parse().ok());
            known.hanging_of.send_replace(of.unwrap_or(0));
        }
    }
    String::new()
}
