//! A login in miniature: `PORTCULLIS_API_KEY=… cargo run -p portcullis-client --example login -- URL NAME` opens a session
//! for NAME, as a login service does once it knows who someone is, and prints the cookies that the browser would get.

use portcullis_client::{Client, OpenSession};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(url), Some(name)) = (arguments.next(), arguments.next()) else {
        return Err("usage: login URL NAME".into());
    };
    let client = Client::new(url.parse()?, std::env::var("PORTCULLIS_API_KEY")?.into())?;
    let opened = client.open_session(&OpenSession::new(name.parse()?, "web".parse()?)).await?;
    for line in &opened.set_cookie {
        println!("Set-Cookie: {line}");
    }
    Ok(())
}
