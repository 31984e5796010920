//! The threads that answer requests: one per core, each with a runtime of its own ([`lane`]).
//!
//! One task takes connections and deals them out in turn. Nothing of a request crosses from thread to thread.
//! Work that is no request (feed, audit trail) stays on the runtime that started the server.

use std::{convert::Infallible, future, io, net::SocketAddr, thread};

use axum::{
    Router,
    serve::{Listener, ListenerExt as _},
};
use tokio::{
    net::{TcpListener, TcpStream},
    runtime::{Builder, Runtime},
    sync::{mpsc, oneshot, watch},
};

use crate::lane;

/// Connections that wait for a thread; more wait in the system's queue.
const WAITING_MAX: usize = 64;

type Connection = (std::net::TcpStream, SocketAddr);

/// Answers requests until `stopped` says so and every connection is done. Dropping it cuts off what is in flight.
///
/// # Errors
///
/// A thread or its runtime cannot be started, or has ended by itself.
pub(super) async fn serve(
    mut listener: TcpListener,
    router: Router,
    mut stopped: watch::Receiver<bool>,
) -> io::Result<()> {
    let address = listener.local_addr()?;
    let start = |number| Lane::start(number, address, router.clone(), stopped.clone());
    let lanes = (0..lane::count()).map(start).collect::<io::Result<Vec<_>>>()?;
    for lane in lanes.iter().cycle() {
        let (stream, from) = tokio::select! {
            // As axum accepts: a failure is waited out.
            connection = Listener::accept(&mut listener) => connection,
            _ = stopped.wait_for(|stopped| *stopped) => break,
        };
        let Ok(stream) = stream.into_std() else { continue };
        if lane.connections.send((stream, from)).await.is_err() {
            return Err(has_ended());
        }
    }
    drop(listener);
    for lane in lanes {
        lane.ended.await.unwrap_or_else(|_| Err(has_ended()))?;
    }
    Ok(())
}

fn has_ended() -> io::Error {
    io::Error::other("a thread that answers requests has ended")
}

/// One of the threads.
struct Lane {
    connections: mpsc::Sender<Connection>,
    ended: oneshot::Receiver<io::Result<()>>,
    /// The thread ends when this is dropped.
    _cut: oneshot::Sender<Infallible>,
}

impl Lane {
    fn start(number: usize, address: SocketAddr, router: Router, stopped: watch::Receiver<bool>) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let (connections, dealt) = mpsc::channel(WAITING_MAX);
        let (tell, ended) = oneshot::channel();
        let (cut, is_cut) = oneshot::channel();
        let dealt = Dealt { connections: dealt, address };
        thread::Builder::new().name(format!("requests-{number}")).spawn(move || {
            lane::enter(number);
            let _ = tell.send(run(&runtime, dealt, router, stopped, is_cut));
        })?;
        Ok(Self { connections, ended, _cut: cut })
    }
}

fn run(
    runtime: &Runtime,
    dealt: Dealt,
    router: Router,
    mut stopped: watch::Receiver<bool>,
    is_cut: oneshot::Receiver<Infallible>,
) -> io::Result<()> {
    // Answers are small and complete: waiting to fill a packet only adds delay.
    let dealt = dealt.tap_io(|stream| {
        let _ = stream.set_nodelay(true);
    });
    let serving = axum::serve(dealt, router.into_make_service_with_connect_info::<SocketAddr>());
    let serving = serving.with_graceful_shutdown(async move {
        let _ = stopped.wait_for(|stopped| *stopped).await;
    });
    runtime.block_on(async {
        tokio::select! {
            served = serving => served,
            _ = is_cut => Ok(()),
        }
    })
}

/// The connections that were dealt to one thread.
struct Dealt {
    connections: mpsc::Receiver<Connection>,
    address: SocketAddr,
}

impl Listener for Dealt {
    type Io = TcpStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (TcpStream, SocketAddr) {
        while let Some((stream, from)) = self.connections.recv().await {
            // One that the system does not let this thread watch is closed, as if it had not been taken.
            if let Ok(stream) = TcpStream::from_std(stream) {
                return (stream, from);
            }
        }
        // Nothing comes any more; the end is told in another way.
        future::pending().await
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}
