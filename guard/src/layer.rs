//! The Tower layer.

use std::{
    future::Future,
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use shared::identity;
use tower::{Layer, Service};

use crate::{Identity, judge::Judge};

/// Puts a guard before a service; see [`crate::Guard::layer`].
#[derive(Clone)]
pub struct GuardLayer(Arc<Judge>);

/// A service behind a guard.
#[derive(Clone)]
pub struct Guarded<S> {
    inner: S,
    judge: Arc<Judge>,
}

impl GuardLayer {
    pub(crate) const fn new(judge: Arc<Judge>) -> Self {
        Self(judge)
    }
}

impl<S> Layer<S> for GuardLayer {
    type Service = Guarded<S>;

    fn layer(&self, inner: S) -> Guarded<S> {
        Guarded { inner, judge: Arc::clone(&self.0) }
    }
}

impl<S, B, R> Service<Request<B>> for Guarded<S>
where
    S: Service<Request<B>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send,
    B: Send + 'static,
    R: From<String>,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        // The copy was not asked whether it is ready; the one that was is used.
        let clone = self.inner.clone();
        let mut inner = mem::replace(&mut self.inner, clone);
        let judge = Arc::clone(&self.judge);
        Box::pin(async move {
            let (mut parts, body) = request.into_parts();
            match judge.judge(&parts).await {
                Ok(identity) => {
                    tell(&mut parts.headers, identity.as_ref());
                    if let Some(identity) = identity {
                        parts.extensions.insert(identity);
                    }
                    inner.call(Request::from_parts(parts, body)).await
                }
                Err(refusal) => Ok(refusal.into_response()),
            }
        })
    }
}

/// Lets the headers say what was judged, and nothing else (BRR-10).
fn tell(headers: &mut HeaderMap, found: Option<&Identity>) {
    let is_doomed = |name: &&HeaderName| identity::is_reserved(name.as_str()) || identity::is_override(name.as_str());
    let doomed = headers.keys().filter(is_doomed).cloned().collect::<Vec<_>>();
    for name in doomed {
        headers.remove(name);
    }
    let Some(Identity { claims, .. }) = found else { return };
    for (name, value) in identity::HEADERS.into_iter().zip(identity::values(claims)) {
        if let (false, Ok(value)) = (value.is_empty(), HeaderValue::try_from(value)) {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
}
