//! How long a revoked token is still admitted.

use std::time::{Duration, Instant};

use portcullis_tests::{Setting, eventually};
use reqwest::Method;

type Tested = anyhow::Result<()>;

/// What the route `/app/*` of the tests allows: 3 s of staleness and half a second of skew.
const BOUND: Duration = Duration::from_millis(3_500);

/// REV-06, TOK-23, I1: from the acknowledgement of a revocation to the last time that the gate admits the token, again and again;
/// from then on it is never admitted, and the token of another session always is.
#[tokio::test]
async fn a_revocation_reaches_the_gate_within_the_bound_and_stays() -> Tested {
    let setting = Setting::start().await?;
    let kept = setting.open("bob").await?;
    let mut took = Vec::new();
    for _ in 0..20 {
        let opened = setting.open("alice").await?;
        assert_eq!(setting.gate.status_of("/app/x", &opened.access).await?, 200);
        let form = [("token", opened.refresh.as_str()), ("client_id", "web")];
        let answer = setting.origin.request(Method::POST, "/oauth2/revoke").form(&form).send().await?;
        assert_eq!(answer.status(), 200);
        let acknowledged = Instant::now();
        // A gate that cannot know answers 503, which admits nobody.
        let mut admitted = Duration::ZERO;
        let refused = async || {
            let asked = acknowledged.elapsed();
            let status = setting.gate.status_of("/app/x", &opened.access).await.ok()?;
            if status == 200 {
                admitted = asked;
            }
            (status == 401).then_some(())
        };
        eventually("the refusal", refused).await?;
        took.push(admitted);
        for _ in 0..3 {
            assert_eq!(setting.gate.status_of("/app/x", &opened.access).await?, 401);
        }
        assert_eq!(setting.gate.status_of("/app/x", &kept.access).await?, 200);
    }
    took.sort_unstable();
    let (middle, longest) = (took[took.len() / 2], took[took.len() - 1]);
    println!("from acknowledgement to the last admission: median {middle:?}, longest {longest:?} of {}", took.len());
    assert!(longest < BOUND, "I1: {longest:?}");
    setting.origin.stop().await;
    Ok(())
}
