//! nginx before two gates, as `deploy/nginx.conf` says.

use std::{
    fs,
    path::Path,
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, ensure};
use reqwest::{Client, Method, RequestBuilder, redirect};
use tempfile::TempDir;
use tokio::net::TcpStream;

use crate::{eventually, free_port, root};

/// The host that browsers know; the certificate names it.
const HOST: &str = "app.example";

/// nginx with TLS on a free port; it ends when it is dropped.
pub struct TestNginx {
    child: Child,
    client: Client,
    base: String,
    directory: TempDir,
}

impl TestNginx {
    /// Starts it before gates on these ports, and waits until it listens.
    ///
    /// # Errors
    ///
    /// `nginx` or `openssl` is not installed, or the example is wrong.
    pub async fn start(gates: [u16; 2]) -> anyhow::Result<Self> {
        let (directory, port) = (tempfile::tempdir()?, free_port()?);
        make_certificate(directory.path())?;
        let example = fs::read_to_string(root().join("deploy/nginx.conf"))?;
        let config = directory.path().join("nginx.conf");
        fs::write(&config, placed(&example, port, gates, directory.path())?)?;
        let child = spawn(&config, directory.path())?;
        let at = ([127, 0, 0, 1], port).into();
        let client = Client::builder().no_proxy().redirect(redirect::Policy::none()).resolve(HOST, at);
        // Nobody has signed the certificate.
        let client = client.tls_danger_accept_invalid_certs(true).build()?;
        let nginx = Self { child, client, base: format!("https://{HOST}:{port}"), directory };
        let listens = eventually("nginx", async || TcpStream::connect(at).await.ok()).await;
        listens.with_context(|| format!("nginx said: {}", nginx.log()))?;
        Ok(nginx)
    }

    /// What browsers know it by: `https://app.example:PORT`.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// A request without credential; redirects are not followed. The answer's `served-by` has the address of the gate, or those
    /// of the gates that were tried.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.base))
    }

    /// What it complained of.
    pub fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("error.log")).unwrap_or_default()
    }
}

impl Drop for TestNginx {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The example with the ports and files of a test.
fn placed(example: &str, port: u16, gates: [u16; 2], directory: &Path) -> anyhow::Result<String> {
    let directory = directory.display();
    let folders = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    let folders = folders.map(|kind| format!("{kind}_temp_path {directory}/{kind};")).concat();
    let own = format!("http {{ access_log off; add_header served-by $upstream_addr always; {folders}");
    let mut config = example.to_owned();
    for (from, to) in [
        ("http {", own),
        ("listen 443 ", format!("listen 127.0.0.1:{port} ")),
        ("/etc/portcullis/tls", format!("{directory}/tls")),
        ("127.0.0.1:8787 ", format!("127.0.0.1:{} ", gates[0])),
        ("127.0.0.1:8788 ", format!("127.0.0.1:{} ", gates[1])),
    ] {
        ensure!(config.contains(from), "no {from:?} in deploy/nginx.conf");
        config = config.replace(from, &to);
    }
    Ok(config)
}

fn spawn(config: &Path, directory: &Path) -> anyhow::Result<Child> {
    // Debian keeps it where only the search path of root may lead.
    let debian = Path::new("/usr/sbin/nginx");
    let mut nginx = Command::new(if debian.is_file() { debian } else { Path::new("nginx") });
    nginx.arg("-c").arg(config).arg("-p").arg(directory).arg("-e").arg(directory.join("error.log"));
    // One process, so that none is left when it is killed.
    nginx.args(["-g", &format!("daemon off; master_process off; pid {}/pid;", directory.display())]);
    nginx.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    nginx.spawn().context("cannot start nginx; run cargo xtask setup")
}

fn make_certificate(directory: &Path) -> anyhow::Result<()> {
    let mut openssl = Command::new("openssl");
    openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]);
    openssl.args(["-subj", &format!("/CN={HOST}"), "-keyout", "tls.key", "-out", "tls.crt"]).current_dir(directory);
    let output = openssl.output().context("cannot start openssl")?;
    ensure!(output.status.success(), "openssl said: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
