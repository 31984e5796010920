//! What a gate publishes of the resource that it guards.

use portcullis_tests::{GatePlace, GateSettings, POLICY, in_node, vectors::Forge};
use reqwest::Method;
use serde_json::Value;

type Tested = anyhow::Result<()>;

const ISSUER: &str = "https://issuer.example";

async fn gate(place: GatePlace, audience: &str) -> anyhow::Result<portcullis_tests::TestGate> {
    let keys = Forge::new(ISSUER, audience, "http://127.0.0.1:1")?.jwks();
    let settings = GateSettings::default().with("ISSUER", ISSUER).with("AUDIENCE", audience);
    place.start(settings.with("TRUSTED_JWKS", &keys)).await
}

/// META-03, META-04: `oauth4webapi` finds the metadata that a refusal names; a gate whose audience is no URL has none, and names
/// none.
#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_leads_to_who_issues_the_tokens() -> Tested {
    let place = GatePlace::new(POLICY)?;
    let resource = place.hub().url.replace("/.portcullis/hubs/local/frames", "");
    let gate = gate(place, &resource).await?;
    println!("{}", in_node("clients/resource.mjs", &["/app/x", &resource, ISSUER], "").await?);
    let path = "/.well-known/oauth-protected-resource";
    let answer = gate.request(Method::GET, path).send().await?;
    assert_eq!((answer.status().as_u16(), answer.headers()["content-type"].to_str()?), (200, "application/json"));
    let metadata: Value = answer.json().await?;
    assert_eq!(metadata["resource"], resource.as_str());
    assert_eq!(gate.request(Method::POST, path).send().await?.status(), 405);
    let other_host = gate.request(Method::GET, path).header("host", "other.example");
    assert_eq!(other_host.send().await?.status(), 404);
    let public = gate.request(Method::GET, "/nowhere").send().await?;
    assert!(public.headers().get("www-authenticate").is_none());
    Ok(())
}

#[tokio::test]
async fn an_audience_that_is_no_url_has_no_metadata() -> Tested {
    let gate = gate(GatePlace::new(POLICY)?, "portcullis").await?;
    assert_eq!(gate.request(Method::GET, "/.well-known/oauth-protected-resource").send().await?.status(), 404);
    let refused = gate.request(Method::GET, "/app/x").send().await?;
    assert_eq!(refused.headers()["www-authenticate"], r#"Bearer realm="portcullis""#);
    Ok(())
}
