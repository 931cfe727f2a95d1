//! One attempt on a fresh connection, until `forward` stands.

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use tidegate_picker::PickRequest;
use tidegate_telemetry::Reason;
use tokio::time::Instant;

use crate::forward::{ForwardBody, ForwardError, Forwarded, Forwarding};

pub(crate) async fn forward(forwarding: Forwarding<'_>) -> Result<Forwarded, ForwardError> {
    let fail = |reason, endpoint: Option<Arc<str>>| ForwardError {
        reason,
        message: "the model server cannot be reached".into(),
        endpoint,
        retries: 0,
        retry_after: None,
    };
    let request = PickRequest { model: forwarding.model, tried: &[], random: fastrand::u64(..) };
    let pool = forwarding.pool;
    let reservation = pool.picker.pick(&pool.state, &request).ok_or_else(|| fail(Reason::NoEndpoint, None))?;
    let upstream = pool.upstreams.get(reservation.index).cloned().ok_or_else(|| fail(Reason::NoEndpoint, None))?;
    let address = upstream.key.address.clone();
    let stream = tokio::net::TcpStream::connect(&*address)
        .await
        .map_err(|_| fail(Reason::ConnectFailed, Some(address.clone())))?;
    let body = match forwarding.body {
        ForwardBody::Empty => Bytes::new(),
        ForwardBody::Buffered(parts) => parts.concat().into(),
        ForwardBody::Streaming { body, .. } => {
            body.collect().await.map_err(|_| fail(Reason::ClientLeft, None))?.to_bytes()
        }
    };
    let failed = |_| fail(Reason::UpstreamReset, Some(address.clone()));
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
    tokio::spawn(connection);
    let request = http::Request::from_parts(forwarding.head, Full::new(body));
    let response = sender.send_request(request).await.map_err(failed)?;
    let (head, body) = response.into_parts();
    Ok(Forwarded {
        head,
        first: Bytes::new(),
        complete: false,
        body: Some(body),
        first_byte: Instant::now(),
        reservation,
        upstream,
        retries: 0,
    })
}
