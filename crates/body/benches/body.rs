//! What a body costs: `cargo bench -p tidegate-body`. Throughput of the request scan over prompts as they come, and of
//! what follows an answer's stream, chunk by chunk.

#![expect(clippy::unwrap_used, reason = "a bench over inputs that it makes itself")]

use bytes::Bytes;
use divan::counter::BytesCount;
use divan::{Bencher, black_box};
use tidegate_body::answer::{AnswerKind, AnswerTap, ModelReplacer, first_event};
use tidegate_body::scan::scan;

fn main() {
    divan::main();
}

fn chat(prompt: &str) -> Vec<u8> {
    let prompt = serde_json::Value::from(prompt);
    format!("{{\"model\":\"llama\",\"messages\":[{{\"role\":\"user\",\"content\":{prompt}}}],\"stream\":true,\"max_tokens\":64}}")
        .into_bytes()
}

fn scan_body(bencher: Bencher<'_, '_>, body: &[u8]) {
    bencher.counter(BytesCount::of_slice(body)).bench_local(|| scan(black_box(body)).unwrap().model.is_some());
}

/// One long string without anything to look at.
#[divan::bench(args = [256, 4 << 10, 64 << 10, 1 << 20])]
fn scan_plain(bencher: Bencher<'_, '_>, length: usize) {
    scan_body(bencher, &chat(&"lorem ipsum dolor sit amet ".repeat(length / 27)));
}

/// A line break every 80 bytes and a quotation every 200, as in prose.
#[divan::bench(args = [256, 4 << 10, 64 << 10, 1 << 20])]
fn scan_prose(bencher: Bencher<'_, '_>, length: usize) {
    let line = "lorem ipsum dolor sit amet, consectetur adipiscing elit, sed do eiusmod tempor\n";
    let mut prompt = String::new();
    while prompt.len() < length {
        prompt += line;
        prompt += line;
        prompt += "\"ut labore et dolore\" ";
    }
    scan_body(bencher, &chat(&prompt));
}

/// A conversation of many short messages: structure rather than text.
#[divan::bench(args = [4 << 10, 64 << 10])]
fn scan_messages(bencher: Bencher<'_, '_>, length: usize) {
    let message = r#"{"role": "user", "content": [{"type": "text", "text": "and then?"}], "n": 1.5, "x": null},"#;
    let messages = message.repeat(length / message.len());
    let body = format!("{{\"messages\":[{}],\"model\":\"llama\"}}", messages.trim_end_matches(','));
    scan_body(bencher, body.as_bytes());
}

const EVENT: &[u8] = b"data: {\"id\":\"chatcmpl-bc69a78c96395d56\",\"object\":\"chat.completion.chunk\",\"created\":1795334268,\
\"model\":\"mymodel\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\" harbour\"},\"logprobs\":null,\"finish_reason\":null,\
\"token_ids\":null}]}\n\n";

/// One event of a stream, as it comes: a chunk of its own.
#[divan::bench]
fn tap_event(bencher: Bencher<'_, '_>) {
    let mut tap = AnswerTap::new(AnswerKind::EventStream);
    bencher.counter(BytesCount::of_slice(EVENT)).bench_local(|| tap.push(black_box(EVENT)));
}

const ANSWER: &[u8] = br#"{"id":"chatcmpl-80d6b3acc6d525f0","object":"chat.completion","created":1795334267,"model":"mymodel","choices":[{"index":0,"message":{"role":"assistant","content":"The harbour was built in 1932 and has been widened twice since.","refusal":null,"annotations":null,"audio":null,"function_call":null,"reasoning":null},"logprobs":null,"finish_reason":"stop","stop_reason":null,"token_ids":null,"routed_experts":null}],"service_tier":null,"system_fingerprint":"vllm-0.32.0-bb8f91e1","usage":{"prompt_tokens":64,"total_tokens":80,"completion_tokens":16,"prompt_tokens_details":null,"completion_tokens_details":null},"prompt_logprobs":null,"prompt_token_ids":null,"prompt_text":null,"kv_transfer_params":null,"ec_transfer_params":null,"metrics":null}"#;

/// A whole answer.
#[divan::bench]
fn tap_answer(bencher: Bencher<'_, '_>) {
    bencher.counter(BytesCount::of_slice(ANSWER)).bench_local(|| {
        let mut tap = AnswerTap::new(AnswerKind::Json);
        tap.push(black_box(ANSWER));
        tap.summary().completion_tokens
    });
}

#[divan::bench]
fn first_event_of_a_stream(bencher: Bencher<'_, '_>) {
    bencher.counter(BytesCount::of_slice(EVENT)).bench_local(|| first_event(black_box(EVENT)));
}

#[divan::bench]
fn replace_in_event(bencher: Bencher<'_, '_>) {
    let mut replacer = ModelReplacer::new(AnswerKind::EventStream, "travelhelper");
    let chunk = Bytes::from_static(EVENT);
    let mut out = Vec::new();
    bencher.counter(BytesCount::of_slice(EVENT)).bench_local(|| {
        out.clear();
        replacer.push(black_box(&chunk).clone(), &mut out);
        out.len()
    });
}
