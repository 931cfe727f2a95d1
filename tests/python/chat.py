"""The unchanged `openai` client through the gateway: models, chat and completions, streaming and not."""

import sys

import openai

client = openai.OpenAI(base_url=sys.argv[1] + "/v1", api_key="unused", max_retries=0)
model = sys.argv[2]

assert model in [card.id for card in client.models.list()], "the alias is listed"

answer = client.chat.completions.create(
    model=model, messages=[{"role": "user", "content": "hi"}], max_tokens=8, temperature=0
)
assert answer.choices[0].message.content and answer.usage.completion_tokens == 8, answer

parts, usage = [], None
for chunk in client.chat.completions.create(
    model=model,
    messages=[{"role": "user", "content": "hi"}],
    max_tokens=8,
    temperature=0,
    stream=True,
    stream_options={"include_usage": True},
):
    if chunk.choices:
        parts.append(chunk.choices[0].delta.content or "")
    usage = chunk.usage or usage
assert "".join(parts) and usage.completion_tokens == 8, (parts, usage)

assert client.completions.create(model=model, prompt="hi", max_tokens=3).choices[0].text

try:
    client.chat.completions.create(model="nope", messages=[{"role": "user", "content": "hi"}])
    raise SystemExit("an unknown model was answered")
except openai.NotFoundError as error:
    assert "nope" in str(error), error
print("ok")
