// The official OpenAI client for Node gets through Refrain, cold and warm, what it gets without.

import assert from 'node:assert/strict';
import { after, before, beforeEach, afterEach, describe, test } from 'node:test';

import OpenAI from 'openai';
import { zodResponseFormat } from 'openai/helpers/zod';
import { z } from 'zod';

import { metric, mock, proxy, recording, scripted } from './house.mjs';

const QUESTION = [
  { role: 'developer', content: 'Be brief.' },
  { role: 'user', content: 'Grüß mich 😀' },
];
const NO_PARAMETERS = { type: 'object', properties: {}, required: [], additionalProperties: false };
const TOOLS = ['weather', 'time'].map((name) => ({
  type: 'function',
  function: { name, strict: true, parameters: NO_PARAMETERS },
}));
const CASES = {
  text: { temperature: 0.1, metadata: { trace: '1' }, seed: 2 ** 53 - 1 },
  tools: { tools: TOOLS, parallel_tool_calls: true, tool_choice: 'auto' },
  structured: { response_format: { type: 'json_object' } },
  choices: { n: 3, temperature: 1 },
  logprobs: { logprobs: true, top_logprobs: 2 },
  refusal: {},
};
const Event = z.object({ name: z.string(), day: z.string(), people: z.array(z.string()) });
const EVENT = { name: 'Réunion', day: 'Friday', people: ['Ann', 'Bo'] };

const client = (baseURL) => new OpenAI({ baseURL, apiKey: 'sk-test', maxRetries: 0, timeout: 30_000 });
const asked = (model, extra = {}) => ({ model, messages: QUESTION, ...CASES[model], ...extra });
const plain = (value) => JSON.parse(JSON.stringify(value));

const whole = async (url, model) => plain(await client(url).chat.completions.create(asked(model)));

async function streamed(url, model) {
  const extra = { stream: true, stream_options: { include_usage: true } };
  const chunks = await client(url).chat.completions.create(asked(model, extra));
  return plain(await Array.fromAsync(chunks));
}

/** Returns what the SDK itself makes of a stream. */
const accumulated = async (url, model) => {
  const parameters = asked(model, { stream_options: { include_usage: true } });
  return plain(await client(url).chat.completions.stream(parameters).finalChatCompletion());
};

describe('through the proxy', () => {
  let up;
  let through;

  beforeEach(async () => {
    up = await scripted();
    through = await proxy(up.url);
  });

  afterEach(async () => {
    await through?.stop();
    up.stop();
  });

  for (const model of Object.keys(CASES)) {
    for (const ask of [whole, streamed]) {
      test(`parsed objects equal those of a direct call: ${ask.name} ${model}`, async () => {
        const direct = await ask(up.url, model);
        assert.deepEqual(await ask(through.url, model), direct);
        assert.deepEqual(await ask(through.url, model), direct);
        assert.equal(up.calls, 2);
      });
    }
  }

  for (const model of Object.keys(CASES)) {
    test(`a stream with its usage answers a plain call: ${model}`, async () => {
      const direct = await whole(up.url, model);
      await streamed(through.url, model);
      assert.deepEqual(await whole(through.url, model), direct);
      assert.equal(up.calls, 2);
    });

    test(`a plain answer answers a stream: ${model}`, async () => {
      const direct = await accumulated(up.url, model);
      await whole(through.url, model);
      assert.deepEqual(await accumulated(through.url, model), direct);
      assert.equal(up.calls, 2);
    });

    test(`a stream without usage does not answer a plain call: ${model}`, async () => {
      const direct = await whole(up.url, model);
      // To the end of the body: the SDK itself leaves at `[DONE]`, when nothing may be stored yet.
      await (await client(through.url).chat.completions.create(asked(model, { stream: true })).asResponse()).text();
      const { data, response } = await client(through.url).chat.completions.create(asked(model)).withResponse();
      assert.equal(response.headers.get('x-cache-reason'), 'usage_missing');
      assert.deepEqual(plain(data), direct);
      assert.equal(up.calls, 3);
    });

    test(`who does not ask for the usage does not get it: ${model}`, async () => {
      for (const record of [streamed, whole]) {
        await record(through.url, model);
        const silent = await client(through.url).chat.completions.create(asked(model, { stream: true }));
        for await (const chunk of silent) {
          assert.ok(chunk.choices.length > 0);
          assert.ok(!('usage' in chunk));
        }
      }
      assert.equal(up.calls, 1);
    });
  }

  test('fragmented tool calls add up', async () => {
    for (let round = 0; round < 2; round += 1) {
      const final = await client(through.url).chat.completions.stream(asked('tools')).finalChatCompletion();
      const calls = final.choices[0].message.tool_calls.map((call) => [call.function.name, call.function.arguments]);
      assert.deepEqual(calls, [
        ['weather', '{"city":"Paris","unit":"C"}'],
        ['time', '{"zone":"Europe/Paris"}'],
      ]);
    }
    assert.equal(up.calls, 1);
  });

  test('structured outputs parse cold and warm', async () => {
    const parameters = { model: 'structured', messages: QUESTION, response_format: zodResponseFormat(Event, 'event') };
    for (let round = 0; round < 2; round += 1) {
      const parsed = await client(through.url).chat.completions.parse(parameters);
      assert.deepEqual(parsed.choices[0].message.parsed, EVENT);
      const final = await client(through.url).chat.completions.stream(parameters).finalChatCompletion();
      assert.deepEqual(final.choices[0].message.parsed, EVENT);
    }
    assert.equal(up.calls, 1);
  });

  test('the raw response shows the verdict', async () => {
    const answers = [];
    for (let round = 0; round < 2; round += 1) {
      const answer = await client(through.url).chat.completions.create(asked('text')).asResponse();
      answers.push({ headers: answer.headers, body: await answer.text() });
    }
    const [cold, warm] = answers;
    assert.deepEqual([cold.headers.get('x-cache'), warm.headers.get('x-cache')], ['MISS', 'HIT']);
    assert.equal(cold.headers.get('x-request-id'), 'req-1');
    assert.equal(warm.headers.get('x-cache-origin-request-id'), 'req-1');
    assert.equal(cold.body, recording('text.json'));
    assert.equal(warm.body, recording('text.json'));
  });

  test('a parsed answer comes with its response', async () => {
    const { data, response, request_id: id } = await client(through.url)
      .chat.completions.create(asked('text'))
      .withResponse();
    assert.equal(data.choices[0].finish_reason, 'stop');
    assert.equal(response.headers.get('x-cache'), 'MISS');
    assert.equal(id, 'req-1');
  });

  test('an interrupted stream raises', async () => {
    for (const url of [up.url, through.url, through.url]) {
      const seen = [];
      await assert.rejects(async () => {
        const chunks = await client(url).chat.completions.create(asked('cut', { stream: true }));
        for await (const chunk of chunks) seen.push(chunk);
      });
      assert.equal(seen.length, 3);
    }
    assert.equal(up.calls, 3);
  });

  /** Reads a stream that breaks off; returns how many chunks came before. */
  async function readUntilCut() {
    const seen = [];
    await assert.rejects(async () => {
      const chunks = await client(through.url).chat.completions.create(asked('cut-once', { stream: true }));
      for await (const chunk of chunks) seen.push(chunk);
    });
    return seen.length;
  }

  /** Asserts that nothing is left of a stream that was cut: the next call is answered whole, by the upstream. */
  async function assertFresh() {
    const { calls } = up;
    const extra = { stream: true, stream_options: { include_usage: true } };
    const answer = await client(through.url).chat.completions.create(asked('cut-once', extra)).asResponse();
    assert.equal(answer.headers.get('x-cache'), 'MISS');
    assert.equal(await answer.text(), recording('text.sse'));
    assert.equal(up.calls, calls + 1);
  }

  test('a stream cut after five events raises, and the next call is a fresh miss', async () => {
    up.openGate();
    assert.equal(await readUntilCut(), 5);
    assert.equal(up.calls, 1);
    await assertFresh();
  });

  test('a stream cut after five events raises for who joined it, too', async () => {
    const readers = [readUntilCut(), readUntilCut(), readUntilCut()];
    while ((await metric(through.admin, 'refrain_followers_total')) < 2);
    up.openGate();
    assert.deepEqual(await Promise.all(readers), [5, 5, 5]);
    assert.equal(up.calls, 1);
    await assertFresh();
  });

  test('a 429 raises as the upstream said it', async () => {
    await assert.rejects(whole(through.url, 'busy-once'), (error) => {
      assert.ok(error instanceof OpenAI.RateLimitError);
      assert.equal(error.headers.get('retry-after'), '1');
      assert.equal(error.headers.get('x-should-retry'), null);
      assert.equal(error.code, 'rate_limit_exceeded');
      return true;
    });
    assert.equal(up.calls, 1);
  });

  test('after a 429 the SDK comes back itself', async () => {
    const patient = client(through.url).withOptions({ maxRetries: 1 });
    const answer = await patient.chat.completions.create(asked('busy-once')).asResponse();
    assert.equal(answer.headers.get('x-cache'), 'MISS');
    assert.equal(await answer.text(), recording('text.json'));
    assert.deepEqual(up.retries, ['0', '1']);
  });

  test('a cancelled stream leaves the proxy healthy', async () => {
    const chunks = await client(through.url).chat.completions.create(asked('hold', { stream: true }));
    for await (const chunk of chunks) {
      assert.equal(chunk.object, 'chat.completion.chunk');
      break;
    }
    assert.equal((await fetch(`${through.admin}/healthz`)).status, 200);
    assert.deepEqual(await whole(through.url, 'text'), await whole(through.url, 'text'));
  });

  test('an aborted call leaves the proxy healthy', async () => {
    const abort = new AbortController();
    const chunks = await client(through.url).chat.completions.create(asked('hold', { stream: true }), {
      signal: abort.signal,
    });
    for await (const chunk of chunks) {
      assert.ok(chunk);
      abort.abort();
    }
    assert.deepEqual(await whole(through.url, 'text'), await whole(through.url, 'text'));
  });

  test('many clients at once are one upstream call', async () => {
    const answers = await Promise.all(Array.from({ length: 50 }, () => streamed(through.url, 'text')));
    for (const answer of answers) assert.deepEqual(answer, answers[0]);
    assert.equal(up.calls, 1);
  });
});

describe('through the proxy to the mock', () => {
  let upstream;
  let through;
  const total = async () => (await (await fetch(new URL('/mock/stats', upstream.url))).json()).total;

  before(async () => {
    upstream = await mock();
    through = await proxy(upstream.url);
  });

  after(async () => {
    await through?.stop();
    await upstream?.stop();
  });

  test('the mock answers once', async () => {
    const calls = await total();
    assert.deepEqual(await whole(through.url, 'mock-once'), await whole(through.url, 'mock-once'));
    assert.equal(await total(), calls + 1);
  });

  test('the mock calls two tools in parallel', async () => {
    const parameters = { model: 'mock', messages: [{ role: 'user', content: 'call tools' }], tools: TOOLS };
    for (let round = 0; round < 2; round += 1) {
      const answer = await client(through.url).chat.completions.create(parameters);
      assert.equal(answer.choices[0].message.tool_calls.length, 2);
      const final = await client(through.url).chat.completions.stream(parameters).finalChatCompletion();
      assert.equal(final.choices[0].message.tool_calls.length, 2);
    }
  });

  test('the mock speaks many choices and logprobs', async () => {
    const parameters = { model: 'mock', messages: QUESTION, n: 3, logprobs: true, top_logprobs: 2 };
    const cold = await client(through.url).chat.completions.create(parameters);
    const warm = await client(through.url).chat.completions.create(parameters);
    assert.deepEqual(plain(warm), plain(cold));
    assert.equal(cold.choices.length, 3);
    for (const choice of cold.choices) assert.ok(choice.logprobs.content.length > 0);
  });

  for (const [model, error] of [
    ['mock-429', OpenAI.RateLimitError],
    ['mock-500', OpenAI.InternalServerError],
  ]) {
    test(`the upstream's error arrives as the SDK's: ${model}`, async () => {
      const headers = { 'X-Fallback': 'error' };
      await assert.rejects(client(through.url).chat.completions.create(asked(model), { headers }), error);
    });
  }

  test('an apology parses as a completion and as a stream', async () => {
    const extra = { stream_options: { include_usage: true } };
    const { completions } = client(through.url).chat;
    const { data, response } = await completions.create(asked('mock-500', { n: 2 })).withResponse();
    assert.equal(response.headers.get('x-cache'), 'FALLBACK');
    assert.equal(response.headers.get('x-cache-reason'), 'upstream_error');
    assert.deepEqual(data.choices.map((choice) => choice.index), [0, 1]);
    const final = await completions.stream(asked('mock-500', extra)).finalChatCompletion();
    for (const completion of [data, final]) {
      assert.equal(completion.model, 'fallback');
      assert.equal(completion.usage.total_tokens, 0);
      for (const choice of completion.choices) {
        assert.equal(choice.finish_reason, 'stop');
        assert.equal(choice.message.role, 'assistant');
        assert.match(choice.message.content, /^I'm sorry/);
      }
    }
    const chunks = await Array.fromAsync(await completions.create(asked('mock-500', { stream: true, ...extra })));
    const said = chunks.map((chunk) => chunk.choices[0]?.delta.content ?? '').join('');
    assert.equal(said, data.choices[0].message.content);
    assert.equal(chunks.at(-1).usage.total_tokens, 0);
  });

  test('who asks for tools or JSON gets no apology', async () => {
    for (const extra of [{ tools: TOOLS }, { response_format: { type: 'json_object' } }]) {
      const asking = client(through.url).chat.completions.create(asked('mock-500', extra));
      await assert.rejects(asking, OpenAI.InternalServerError);
    }
  });

  test('a cut stream of the mock raises', async () => {
    await assert.rejects(streamed(through.url, 'mock-cut'));
  });
});
