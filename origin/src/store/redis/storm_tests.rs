//! Many origins, and a server that goes away or hangs and comes back: what reaches it is counted.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, AtomicU64},
};

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

use super::{test_server::Server, tests::config, *};

/// Origins at one server.
const ORIGINS: usize = 50;

/// For how long the server is away.
const AWAY: Duration = Duration::from_secs(4);

/// Stands before a server, as a load balancer that takes connections whether or not the server is there.
struct Proxy {
    port: u16,
    is_up: Arc<AtomicBool>,
    accepted: Arc<Mutex<Vec<Instant>>>,
}

impl Proxy {
    async fn start(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (is_up, accepted) = (Arc::new(AtomicBool::new(true)), Arc::new(Mutex::new(Vec::new())));
        let (up, counted) = (Arc::clone(&is_up), Arc::clone(&accepted));
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                counted.lock().unwrap().push(Instant::now());
                if !up.load(Ordering::SeqCst) {
                    continue;
                }
                tokio::spawn(async move {
                    let Ok(mut upstream) = TcpStream::connect(("127.0.0.1", server)).await else { return };
                    let _ = copy_bidirectional(&mut client, &mut upstream).await;
                });
            }
        });
        Self { port, is_up, accepted }
    }

    /// Connections from `from` on, within each span of that length.
    fn per(&self, span: Duration, from: Instant) -> Vec<usize> {
        let mut counts = Vec::new();
        for at in self.accepted.lock().unwrap().iter().filter(|at| **at >= from) {
            let index = usize::try_from((*at - from).as_millis() / span.as_millis()).unwrap();
            counts.resize(counts.len().max(index + 1), 0);
            counts[index] += 1;
        }
        counts
    }
}

/// Asks the store again and again, as an origin does that follows the log, and counts the answers.
fn follow(store: AnyStore, answers: Arc<AtomicU64>) -> JoinHandle<()> {
    tokio::spawn(async move {
        loop {
            if store.load(&Key::Everyone).await.is_ok() {
                answers.fetch_add(1, Ordering::SeqCst);
            }
            tokio::time::sleep(POLL).await;
        }
    })
}

async fn all_answered(answers: &[Arc<AtomicU64>]) {
    let before: Vec<u64> = answers.iter().map(|count| count.load(Ordering::SeqCst)).collect();
    let deadline = Instant::now() + Duration::from_secs(20);
    while answers.iter().zip(&before).any(|(count, before)| count.load(Ordering::SeqCst) == *before) {
        assert!(Instant::now() < deadline, "not every origin found the server again");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Fifty origins lose their server. Each tries a few times at once, then about once in a second or two, at moments of its
/// own; when the server is back they do not come in step either, and all find it.
#[tokio::test(flavor = "multi_thread")]
async fn fifty_origins_do_not_storm_a_server_that_is_gone() {
    let mut server = Server::start(&[]);
    let proxy = Proxy::start(server.port()).await;
    let url = format!("redis://127.0.0.1:{}", proxy.port);
    let mut answers = Vec::new();
    for _ in 0..ORIGINS {
        let (store, count) = (open(&config(&url)).await.unwrap(), Arc::new(AtomicU64::new(0)));
        follow(store, Arc::clone(&count));
        answers.push(count);
    }
    all_answered(&answers).await;

    proxy.is_up.store(false, Ordering::SeqCst);
    server.stop();
    let gone = Instant::now();
    tokio::time::sleep(AWAY).await;
    let away = proxy.per(Duration::from_secs(1), gone);
    server.restart();
    proxy.is_up.store(true, Ordering::SeqCst);
    let back = Instant::now();
    all_answered(&answers).await;
    let returned = proxy.per(Duration::from_millis(100), back);
    println!("connections in each second away: {away:?}, in each tenth of a second after: {returned:?}");

    // 20 ms, doubled up to 1 s, and up to as much again: at most seven attempts in the first second.
    assert!((ORIGINS..=7 * ORIGINS).contains(&away[0]), "{away:?}");
    assert!(away[2..].iter().all(|count| (1..=ORIGINS + ORIGINS / 2).contains(count)), "{away:?}");
    assert!(returned.iter().all(|count| *count <= ORIGINS / 2), "{returned:?}");
    assert!(returned.iter().sum::<usize>() <= 2 * ORIGINS, "{returned:?}");
}

/// While a server hangs, few calls wait for it: what it finds when it goes on is no crowd.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_hangs_is_not_met_by_a_crowd() {
    let server = Server::start(&[]);
    let impatient = config::Store { timeout_ms: 200, ..config(&server.url()) };
    let store = open(&impatient).await.unwrap();
    let answers: Vec<_> = (0..ORIGINS).map(|_| Arc::new(AtomicU64::new(0))).collect();
    for count in &answers {
        follow(store.clone(), Arc::clone(count));
    }
    all_answered(&answers).await;

    server.pause();
    let calls = || answers.iter().map(|count| count.load(Ordering::SeqCst)).sum::<u64>();
    // What had been sent is answered or lost before this is over.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let (sent, answered) = (store.round_trips(), calls());
    tokio::time::sleep(AWAY).await;
    let crowd = store.round_trips() - sent;
    assert_eq!(calls(), answered);
    // Fifty callers with a deadline of 200 ms would have sent a thousand.
    assert!((1..=40).contains(&crowd), "{crowd} calls were sent to a server that hangs");
    server.resume();
    all_answered(&answers).await;
}
