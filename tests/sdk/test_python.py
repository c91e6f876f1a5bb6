"""The official OpenAI client for Python gets through Refrain, cold and warm, what it gets without."""

import asyncio
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from pydantic import BaseModel

import house

QUESTION = [{"role": "developer", "content": "Be brief."}, {"role": "user", "content": "Grüß mich 😀"}]
NO_PARAMETERS = {"type": "object", "properties": {}, "required": [], "additionalProperties": False}
TOOLS = [
    {"type": "function", "function": {"name": name, "strict": True, "parameters": NO_PARAMETERS}}
    for name in ("weather", "time")
]
CASES = {
    "text": {"temperature": 0.1, "metadata": {"trace": "1"}, "seed": 2**53 + 1},
    "tools": {"tools": TOOLS, "parallel_tool_calls": True, "tool_choice": "auto"},
    "structured": {"response_format": {"type": "json_object"}},
    "choices": {"n": 3, "temperature": 1},
    "logprobs": {"logprobs": True, "top_logprobs": 2},
    "refusal": {},
}


class Event(BaseModel):
    name: str
    day: str
    people: list[str]


@pytest.fixture()
def up():
    with house.scripted() as server:
        yield server


@pytest.fixture()
def through(up):
    with house.proxy(up.base_url) as (url, _):
        yield url


@pytest.fixture(scope="module")
def mocked():
    """Yields the proxy's base URL and the mock's address."""
    with house.mock() as upstream, house.proxy(upstream) as (url, _):
        yield url, upstream.removesuffix("/v1")


def client(url, **options):
    return OpenAI(base_url=url, api_key="sk-test", max_retries=0, timeout=house.DEADLINE, **options)


def async_client(url):
    return AsyncOpenAI(base_url=url, api_key="sk-test", max_retries=0, timeout=house.DEADLINE)


def asked(model, **extra):
    return {"model": model, "messages": QUESTION, **CASES.get(model, {}), **extra}


def whole(url, model):
    with client(url) as openai_client:
        return openai_client.chat.completions.create(**asked(model)).model_dump()


def streamed(url, model):
    parameters = asked(model, stream=True, stream_options={"include_usage": True})
    with client(url) as openai_client, openai_client.chat.completions.create(**parameters) as chunks:
        return [chunk.model_dump() for chunk in chunks]


def whole_async(url, model):
    async def ask():
        async with async_client(url) as openai_client:
            return (await openai_client.chat.completions.create(**asked(model))).model_dump()

    return asyncio.run(ask())


def streamed_async(url, model):
    async def ask():
        parameters = asked(model, stream=True, stream_options={"include_usage": True})
        async with async_client(url) as openai_client:
            chunks = await openai_client.chat.completions.create(**parameters)
            return [chunk.model_dump() async for chunk in chunks]

    return asyncio.run(ask())


@pytest.mark.parametrize("model", CASES)
@pytest.mark.parametrize("ask", [whole, streamed, whole_async, streamed_async])
def test_parsed_objects_equal_those_of_a_direct_call(ask, model, up, through):
    direct = ask(up.base_url, model)
    cold, warm = ask(through, model), ask(through, model)
    assert cold == direct
    assert warm == direct
    assert up.calls == 2


def accumulated(url, model):
    """Returns what the SDK itself makes of a stream."""
    parameters = asked(model, stream_options={"include_usage": True})
    with client(url) as openai_client, openai_client.chat.completions.stream(**parameters) as events:
        return events.get_final_completion().model_dump()


def test_sync_and_async_share_the_entry(up, through):
    assert whole(through, "text") == whole_async(through, "text")
    assert streamed(through, "text") == streamed_async(through, "text")
    assert up.calls == 1


@pytest.mark.parametrize("model", CASES)
@pytest.mark.parametrize("ask", [whole, whole_async])
def test_a_stream_with_its_usage_answers_a_plain_call(ask, model, up, through):
    direct = ask(up.base_url, model)
    streamed(through, model)
    assert ask(through, model) == direct
    assert up.calls == 2


# The SDK itself cannot accumulate choices that do not begin in their order, as those of `choices` do.
@pytest.mark.parametrize("model", [model for model in CASES if model != "choices"])
def test_a_plain_answer_answers_a_stream(model, up, through):
    direct = accumulated(up.base_url, model)
    whole(through, model)
    assert accumulated(through, model) == direct
    assert up.calls == 2


def test_a_plain_answer_with_many_choices_answers_a_stream(up, through):
    plain = whole(through, "choices")
    final = accumulated(through, "choices")
    said = [[(choice["index"], choice["message"]["content"]) for choice in answer["choices"]] for answer in (plain, final)]
    assert said[0] == said[1]
    assert final["usage"] == plain["usage"]
    assert up.calls == 1


@pytest.mark.parametrize("model", CASES)
def test_a_stream_without_usage_does_not_answer_a_plain_call(model, up, through):
    direct = whole(up.base_url, model)
    with client(through) as openai_client:
        silent = [list(openai_client.chat.completions.create(**asked(model, stream=True))) for _ in range(2)]
        # To the end of the body: the SDK itself leaves at `[DONE]`, when nothing may be stored yet.
        with openai_client.chat.completions.with_streaming_response.create(**asked(model, stream=True)) as answer:
            answer.read()
    assert silent[0] == silent[1]
    assert up.calls == 2
    with client(through) as openai_client:
        raw = openai_client.chat.completions.with_raw_response.create(**asked(model))
    assert raw.headers["x-cache"] == "MISS"
    assert raw.headers["x-cache-reason"] == "usage_missing"
    assert raw.parse().model_dump() == direct
    assert up.calls == 3


@pytest.mark.parametrize("model", CASES)
def test_who_does_not_ask_for_the_usage_does_not_get_it(model, up, through):
    for record in (streamed, whole):
        record(through, model)
        with client(through) as openai_client:
            chunks = list(openai_client.chat.completions.create(**asked(model, stream=True)))
        assert all(chunk.choices and chunk.usage is None for chunk in chunks)
        assert not any("usage" in chunk.model_fields_set for chunk in chunks)
    assert up.calls == 1


def test_fragmented_tool_calls_add_up(up, through):
    for _ in range(2):
        with client(through) as openai_client:
            stream = openai_client.chat.completions.stream(**asked("tools"))
            with stream as events:
                calls = events.get_final_completion().choices[0].message.tool_calls
        arguments = {call.function.name: call.function.arguments for call in calls}
        assert arguments == {"weather": '{"city":"Paris","unit":"C"}', "time": '{"zone":"Europe/Paris"}'}
    assert up.calls == 1


def test_structured_outputs_parse_cold_and_warm(up, through):
    parameters = {"model": "structured", "messages": QUESTION, "response_format": Event}
    wanted = Event(name="Réunion", day="Friday", people=["Ann", "Bo"])
    with client(through) as openai_client:
        for _ in range(2):
            parsed = openai_client.chat.completions.parse(**parameters)
            assert parsed.choices[0].message.parsed == wanted
        for _ in range(2):
            with openai_client.chat.completions.stream(**parameters) as events:
                assert events.get_final_completion().choices[0].message.parsed == wanted
    assert up.calls == 1


def test_the_raw_response_shows_the_verdict(up, through):
    with client(through) as openai_client:
        raw = [openai_client.chat.completions.with_raw_response.create(**asked("text")) for _ in range(2)]
    assert [answer.headers["x-cache"] for answer in raw] == ["MISS", "HIT"]
    assert raw[0].headers["x-cache-key"] == raw[1].headers["x-cache-key"]
    assert raw[0].request_id == "req-1"
    assert raw[1].headers["x-cache-origin-request-id"] == "req-1"
    assert raw[1].request_id not in (None, "req-1")
    assert raw[0].content == raw[1].content == house.recording("text.json")


def test_the_streaming_response_shows_the_verdict(up, through):
    verdicts, bodies = [], []
    with client(through) as openai_client:
        for _ in range(2):
            create = openai_client.chat.completions.with_streaming_response.create
            with create(**asked("text", stream=True, stream_options={"include_usage": True})) as answer:
                verdicts.append(answer.headers["x-cache"])
                bodies.append(answer.read())
    assert verdicts == ["MISS", "HIT"]
    assert bodies == [house.recording("text.sse")] * 2


def test_an_interrupted_stream_raises(up, through):
    for url in (up.base_url, through, through):
        seen = []
        with client(url) as openai_client, pytest.raises(openai.APIConnectionError):
            for chunk in openai_client.chat.completions.create(**asked("cut", stream=True)):
                seen.append(chunk)
        assert len(seen) == 3
    assert up.calls == 3


def test_an_interrupted_stream_raises_in_async(up, through):
    async def ask():
        async with async_client(through) as openai_client:
            async for _ in await openai_client.chat.completions.create(**asked("cut", stream=True)):
                pass

    with pytest.raises(openai.APIConnectionError):
        asyncio.run(ask())


def read_until_cut(url):
    """Reads a stream that breaks off; returns how many chunks came before."""
    seen = []
    with client(url) as openai_client, pytest.raises(openai.APIConnectionError):
        for chunk in openai_client.chat.completions.create(**asked("cut-once", stream=True)):
            seen.append(chunk)
    return len(seen)


def assert_fresh(up, url):
    """Asserts that nothing is left of a stream that was cut: the next call is answered whole, by the upstream."""
    calls = up.calls
    with client(url) as openai_client:
        create = openai_client.chat.completions.with_streaming_response.create
        with create(**asked("cut-once", stream=True, stream_options={"include_usage": True})) as answer:
            assert answer.headers["x-cache"] == "MISS"
            assert answer.read() == house.recording("text.sse")
    assert up.calls == calls + 1


def test_a_stream_cut_after_five_events_raises_and_the_next_call_is_a_fresh_miss(up, through):
    up.gate.set()
    assert read_until_cut(through) == 5
    assert up.calls == 1
    assert_fresh(up, through)


def test_a_stream_cut_after_five_events_raises_for_who_joined_it_too(up):
    with house.proxy(up.base_url) as (through, admin), ThreadPoolExecutor() as threads:
        readers = [threads.submit(read_until_cut, through) for _ in range(3)]
        deadline = time.monotonic() + house.DEADLINE
        while house.metric(admin, "refrain_followers_total") < 2:
            assert time.monotonic() < deadline, "nobody joins"
        up.gate.set()
        assert [reader.result(house.DEADLINE) for reader in readers] == [5, 5, 5]
        assert up.calls == 1
        assert_fresh(up, through)


def test_a_429_raises_as_the_upstream_said_it(up, through):
    with client(through) as openai_client, pytest.raises(openai.RateLimitError) as raised:
        openai_client.chat.completions.create(**asked("busy-once"))
    response = raised.value.response
    assert response.headers["retry-after"] == "1"
    assert "x-should-retry" not in response.headers
    assert response.content == house.recording("busy.json")
    assert raised.value.code == "rate_limit_exceeded"
    assert up.calls == 1


def test_after_a_429_the_sdk_comes_back_itself(up, through):
    with client(through).with_options(max_retries=1) as openai_client:
        raw = openai_client.chat.completions.with_raw_response.create(**asked("busy-once"))
    assert raw.headers["x-cache"] == "MISS"
    assert raw.content == house.recording("text.json")
    assert [head["x-stainless-retry-count"] for head in up.heads] == ["0", "1"]


def test_a_cancelled_stream_leaves_the_proxy_healthy(up):
    with house.proxy(up.base_url) as (through, admin):
        with client(through) as openai_client:
            stream = openai_client.chat.completions.create(**asked("hold", stream=True))
            next(iter(stream))
            stream.close()
        assert_healthy(through, admin)


def test_a_cancelled_task_leaves_the_proxy_healthy(up):
    async def ask(url):
        async with async_client(url) as openai_client:
            chunks = await openai_client.chat.completions.create(**asked("hold", stream=True))
            async for _ in chunks:
                asyncio.current_task().cancel()

    with house.proxy(up.base_url) as (through, admin):
        with pytest.raises(asyncio.CancelledError):
            asyncio.run(ask(through))
        assert_healthy(through, admin)


def assert_healthy(through, admin):
    with urllib.request.urlopen(f"{admin}/healthz", timeout=house.DEADLINE) as answer:
        assert answer.status == 200
    assert whole(through, "text") == whole(through, "text")


def test_many_clients_at_once_are_one_upstream_call(up, through):
    async def ask():
        async with async_client(through) as openai_client:
            calls = [openai_client.chat.completions.create(**asked("text")) for _ in range(50)]
            return [answer.model_dump() for answer in await asyncio.gather(*calls)]

    answers = asyncio.run(ask())
    assert all(answer == answers[0] for answer in answers)
    assert up.calls == 1


def test_the_mock_answers_once(mocked):
    url, upstream = mocked
    before = house.get_json(f"{upstream}/mock/stats")["total"]
    first, second = whole(url, "mock-once"), whole(url, "mock-once")
    assert first == second
    assert first["choices"][0]["message"]["content"]
    assert house.get_json(f"{upstream}/mock/stats")["total"] == before + 1


def test_the_mock_calls_two_tools_in_parallel(mocked):
    parameters = {"model": "mock", "messages": [{"role": "user", "content": "call tools"}], "tools": TOOLS}
    with client(mocked[0]) as openai_client:
        plain = [openai_client.chat.completions.create(**parameters) for _ in range(2)]
        assert plain[0].model_dump() == plain[1].model_dump()
        assert len(plain[0].choices[0].message.tool_calls) == 2
        with openai_client.chat.completions.stream(**parameters) as events:
            final = events.get_final_completion()
        assert len(final.choices[0].message.tool_calls) == 2


def test_the_mock_speaks_many_choices_and_logprobs(mocked):
    extra = {"n": 3, "logprobs": True, "top_logprobs": 2}
    with client(mocked[0]) as openai_client:
        answers = [
            openai_client.chat.completions.create(model="mock", messages=QUESTION, **extra) for _ in range(2)
        ]
    assert answers[0].model_dump() == answers[1].model_dump()
    assert len(answers[0].choices) == 3
    assert all(choice.logprobs.content for choice in answers[0].choices)


@pytest.mark.parametrize(
    ("model", "error"),
    [("mock-429", openai.RateLimitError), ("mock-500", openai.InternalServerError)],
)
def test_the_upstreams_errors_arrive_as_the_sdks_errors(model, error, mocked):
    with client(mocked[0], default_headers={"X-Fallback": "error"}) as openai_client, pytest.raises(error):
        openai_client.chat.completions.create(**asked(model))


def test_an_apology_parses_as_a_completion_and_as_a_stream(mocked):
    extra = {"stream": True, "stream_options": {"include_usage": True}}
    with client(mocked[0]) as openai_client:
        raw = openai_client.chat.completions.with_raw_response.create(**asked("mock-500", n=2))
        chunks = list(openai_client.chat.completions.create(**asked("mock-500", **extra)))
        with openai_client.chat.completions.stream(**asked("mock-500", stream_options=extra["stream_options"])) as events:
            final = events.get_final_completion()
    assert raw.headers["x-cache"] == "FALLBACK"
    assert raw.headers["x-cache-reason"] == "upstream_error"
    plain = raw.parse()
    assert [choice.index for choice in plain.choices] == [0, 1]
    for completion in (plain, final):
        assert completion.model == "fallback"
        assert completion.object == "chat.completion"
        assert completion.usage.total_tokens == 0
        for choice in completion.choices:
            assert choice.finish_reason == "stop"
            assert choice.message.role == "assistant"
            assert choice.message.content.startswith("I'm sorry")
            assert choice.message.refusal is None
    said = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
    assert said == plain.choices[0].message.content
    assert chunks[-1].usage.total_tokens == 0


def test_who_asks_for_tools_or_json_gets_no_apology(mocked):
    for extra in ({"tools": TOOLS}, {"response_format": {"type": "json_object"}}):
        with client(mocked[0]) as openai_client, pytest.raises(openai.InternalServerError):
            openai_client.chat.completions.create(**asked("mock-500", **extra))


def test_a_cut_stream_of_the_mock_raises(mocked):
    with pytest.raises(openai.APIConnectionError):
        streamed(mocked[0], "mock-cut")

