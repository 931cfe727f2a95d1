//! Notifications: what people are told goes to a webhook, in order, signed, tried again until it is taken or too old.

use std::time::Duration;

use aws_lc_rs::hmac;
use http::Uri;
use serde_json::Value;
use tokio::sync::mpsc;

use crate::client;
use crate::jobs::Job;

/// Notifications on their way at most; older ones than these are in the history.
const QUEUE: usize = 256;
const PATIENCE: Duration = Duration::from_secs(10);
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
const TRIES: u32 = 10;

/// The header of a body's signature: `sha256=` and the hexadecimal HMAC-SHA256 of the body.
pub const SIGNATURE: &str = "x-tidegate-signature-256";

/// Where notifications go.
#[derive(Clone, Debug)]
pub struct NotifyTo {
    /// `http://` or `https://`.
    pub url: Uri,
    /// Signs every body, here and to gates; none: nothing is signed.
    pub secret: Option<Signer>,
}

/// Signs bodies.
#[derive(Clone)]
pub struct Signer(hmac::Key);

impl std::fmt::Debug for Signer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Signer")
    }
}

impl Signer {
    /// A signer with a secret of any length.
    pub fn new(secret: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, secret))
    }

    /// The value of [`SIGNATURE`] for a body.
    pub fn sign(&self, body: &[u8]) -> String {
        let tag = hmac::sign(&self.0, body);
        let hex: String = tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        format!("sha256={hex}")
    }
}

/// The headers of a body.
pub(crate) fn headers(signer: Option<&Signer>, body: &[u8]) -> Vec<(&'static str, String)> {
    signer.map(|signer| (SIGNATURE, signer.sign(body))).into_iter().collect()
}

/// The way to the webhook.
#[derive(Debug, Default)]
pub(crate) struct Notices {
    queue: Option<mpsc::Sender<Value>>,
    signer: Option<Signer>,
    _task: Option<Job>,
}

impl Notices {
    /// Starts the sender where there is somewhere to send to; needs a runtime then.
    pub(crate) fn new(to: Option<NotifyTo>) -> Self {
        let Some(to) = to else { return Self::default() };
        let (queue, notices) = mpsc::channel(QUEUE);
        let signer = to.secret.clone();
        Self { queue: Some(queue), signer, _task: Some(Job::start(deliver(to, notices))) }
    }

    /// Tells people; never waits.
    pub(crate) fn send(&self, notice: Value) {
        if let Some(queue) = &self.queue
            && queue.try_send(notice).is_err()
        {
            tracing::warn!("a notification is dropped: too many wait for the webhook");
        }
    }

    /// Who signs.
    pub(crate) fn signer(&self) -> Option<Signer> {
        self.signer.clone()
    }
}

async fn deliver(to: NotifyTo, mut notices: mpsc::Receiver<Value>) {
    while let Some(notice) = notices.recv().await {
        let body = notice.to_string();
        let mut pause = FIRST_PAUSE;
        let mut last = String::new();
        let mut is_taken = false;
        for _ in 0..TRIES {
            let signed = headers(to.secret.as_ref(), body.as_bytes());
            last = match client::post_to(&to.url, signed, body.clone().into(), PATIENCE).await {
                Ok(answer) if (200..300).contains(&answer.status) => {
                    is_taken = true;
                    break;
                }
                Ok(answer) => answer.says(),
                Err(error) => error.to_string(),
            };
            tokio::time::sleep(pause).await;
            pause = pause.saturating_mul(2).min(LONGEST_PAUSE);
        }
        if !is_taken {
            tracing::warn!(url = %to.url, error = last, "a notification is given up");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signs_as_others_do() {
        // RFC 4231, test case 2.
        let signed = Signer::new(b"Jefe").sign(b"what do ya want for nothing?");
        assert_eq!(signed, "sha256=5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    }
}
