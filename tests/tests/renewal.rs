//! Many tabs and many gates renew one session at once. Alone in its process, since metrics are counted per process.

use std::collections::BTreeSet;

use futures_util::future::try_join_all;
use portcullis_tests::{GatePlace, POLICY, Setting, set_cookies};
use reqwest::Method;

type Tested = anyhow::Result<()>;

/// Requests at once, over two gates.
const REQUESTS: usize = 50;

/// I3: nobody is signed out, one generation lives, and each gate asks the origin about once.
#[tokio::test]
async fn fifty_requests_over_two_gates_take_few_exchanges_and_end_with_one_generation() -> Tested {
    let setting = Setting::start_at(GatePlace::new(POLICY)?.with_second()?, |_| {}).await?;
    let opened = setting.open("alice").await?;
    // The second gate must know the keys of the origin first.
    assert_eq!(setting.gate.second(Method::GET, "/app/x").bearer_auth(&opened.access).send().await?.status(), 200);
    let before = exchanges(&setting).await?;
    let answers = try_join_all((0..REQUESTS).map(|number| {
        let path = format!("/app/part/{number}");
        let request = if number % 2 == 0 {
            setting.gate.request(Method::GET, &path)
        } else {
            setting.gate.second(Method::GET, &path)
        };
        request.header("cookie", format!("__Host-Http-at=expired; __Host-Http-rt={}", opened.refresh)).send()
    }))
    .await?;
    let mut generations = BTreeSet::new();
    for answer in &answers {
        let lines = set_cookies(answer);
        assert_eq!((answer.status().as_u16(), lines.len()), (200, 2));
        generations.extend(lines.into_iter().filter(|line| line.starts_with("__Host-Http-rt=")));
    }
    assert_eq!(generations.len(), 1, "one successor");
    let took = exchanges(&setting).await? - before;
    println!("{REQUESTS} requests took {took} exchanges");
    // A gate may begin a second one for a request that comes after the others.
    assert!((2..=6).contains(&took), "{took} exchanges");
    assert!(setting.origin.is_active(&opened.access).await?, "the session goes on");
    let next = generations.first().and_then(|line| line.split([';', '=']).nth(1)).unwrap_or_default();
    assert_eq!(setting.origin.refresh(next, "web").await?.0, 200);
    setting.origin.stop().await;
    Ok(())
}

/// Refreshes that the origin was asked for.
async fn exchanges(setting: &Setting) -> anyhow::Result<u64> {
    let metrics = setting.origin.request(Method::GET, "/metrics").send().await?.text().await?;
    let counts = metrics.lines().filter(|line| line.starts_with("portcullis_refreshes_total{"));
    Ok(counts.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum())
}
