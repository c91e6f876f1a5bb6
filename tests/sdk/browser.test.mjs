// What web pages can and cannot do with Refrain, in a real browser: Debian's Chromium, steered by Playwright.
//
// Every name below `.test` is this machine, so a page can be of any site. That a page gets nowhere is only worth something
// if it would get somewhere else: each attempt is also made on a proxy that has no key to spend, and arrives there.

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { after, afterEach, before, beforeEach, describe, test } from 'node:test';

import { chromium } from 'playwright-core';

import { metric, proxy, recording, scripted, website } from './house.mjs';

const CALLER_KEY = 'sk-refrain-of-the-web-app';
const OWN_KEY = '[[upstream]]\napi_key = "sk-the-proxys-own"\n';
const CALLERS = `[[caller]]\nname = "web"\nkeys = "sha256:${createHash('sha256').update(CALLER_KEY).digest('hex')}"\n`;
const ANSWER = JSON.parse(recording('text.json')).choices[0].message.content;

const BODY = JSON.stringify({ model: 'text', messages: [{ role: 'user', content: 'hi' }] });

/** What a page may try without anybody's leave. Each runs in the page, and none waits for what comes of it. */
const ATTEMPTS = {
  'a call that asks for leave first': ({ url, body }) => {
    const headers = { authorization: 'Bearer anything', 'content-type': 'application/json' };
    fetch(`${url}/chat/completions`, { method: 'POST', headers, body }).catch(() => {});
  },
  'a call that needs no leave': ({ url, body }) => {
    fetch(`${url}/chat/completions`, { method: 'POST', mode: 'no-cors', body }).catch(() => {});
  },
  'a call with the cookies of this machine': ({ url, body }) => {
    const all = { method: 'POST', mode: 'no-cors', credentials: 'include', body };
    fetch(`${url}/chat/completions`, all).catch(() => {});
  },
  'a form': ({ url, body }) => {
    const form = document.createElement('form');
    const field = document.createElement('input');
    // Together with the equals sign of a form, this is JSON.
    [field.name, field.value] = [`${body.slice(0, -1)},"user":"`, '"}'];
    Object.assign(form, { action: `${url}/chat/completions`, method: 'POST', enctype: 'text/plain' });
    form.append(field);
    document.body.append(form);
    form.submit();
  },
  'a beacon': ({ url, body }) => {
    navigator.sendBeacon(`${url}/chat/completions`, body);
  },
  'an image': ({ url }) => {
    new Image().src = `${url}/models`;
  },
  'a script': ({ url }) => {
    document.head.append(Object.assign(document.createElement('script'), { src: `${url}/models` }));
  },
  'a link': ({ url }) => {
    location.href = `${url}/models`;
  },
  'a frame': ({ url }) => {
    document.body.append(Object.assign(document.createElement('iframe'), { src: `${url}/models` }));
  },
  'a frame that has no origin': ({ url, body }) => {
    const frame = document.createElement('iframe');
    frame.sandbox = 'allow-scripts';
    const call = `fetch("${url}/chat/completions", { method: "POST", mode: "no-cors", body: ${JSON.stringify(body)} })`;
    frame.srcdoc = `<script>${call}</script>`;
    document.body.append(frame);
  },
  'a stream of events': ({ url }) => {
    new EventSource(`${url}/models`);
  },
  'a socket': ({ url }) => {
    new WebSocket(`${url}/realtime`.replace('http', 'ws'));
  },
};

/** Asks as the official SDK does in a page; returns the verdict and the text. */
async function chat({ url, apiKey, content, stream }) {
  const { default: OpenAI } = await import('/openai/index.mjs');
  const client = new OpenAI({ baseURL: url, apiKey, dangerouslyAllowBrowser: true, maxRetries: 0 });
  const asked = { model: 'text', messages: [{ role: 'user', content }], stream };
  const { data, response } = await client.chat.completions.create(asked).withResponse();
  let text = '';
  if (stream) for await (const chunk of data) text += chunk.choices[0]?.delta.content ?? '';
  else text = data.choices[0].message.content;
  return [response.headers.get('x-cache'), text];
}

/** What becomes of the SDK's call in a page that may not call. */
async function refusal({ url, apiKey }) {
  const { default: OpenAI } = await import('/openai/index.mjs');
  const client = new OpenAI({ baseURL: url, apiKey, dangerouslyAllowBrowser: true, maxRetries: 0 });
  const asked = { model: 'text', messages: [{ role: 'user', content: 'hi' }] };
  const error = await client.chat.completions.create(asked).then(() => null, (error) => error);
  return { isConnection: error instanceof OpenAI.APIConnectionError, status: error?.status };
}

describe('a web page', { timeout: 120_000 }, () => {
  let browser;
  let site;
  let up;
  let running;
  let page;
  const origin = (host) => `http://${host}:${site.port}`;

  before(async () => {
    site = await website();
    browser = await chromium.launch({
      executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
      // Root has no sandbox.
      chromiumSandbox: process.getuid() !== 0,
      args: ['--host-resolver-rules=MAP *.test 127.0.0.1'],
    });
  });

  after(async () => {
    await browser?.close();
    site?.stop();
  });

  beforeEach(async () => {
    up = await scripted();
    running = [];
    page = await browser.newPage();
  });

  afterEach(async () => {
    await page?.close();
    await Promise.all(running.map((through) => through.stop()));
    up.stop();
  });

  const house = async (settings) => {
    const through = await proxy(up.url, settings);
    running.push(through);
    return through;
  };
  const nextLine = async (through) => (await through.calls.next()).value;

  describe('of another origin cannot spend the key of the proxy', () => {
    for (const [name, attempt] of Object.entries(ATTEMPTS)) {
      test(`by ${name}`, async () => {
        const guarded = await house(OWN_KEY);
        await page.goto(origin('evil.test'));
        await page.evaluate(attempt, { url: guarded.url, body: BODY });
        const refused = await nextLine(guarded);
        assert.equal(refused['error.kind'], 'forbidden');
        assert.equal(refused['http.response.status_code'], 403);
        assert.equal(up.calls, 0);

        const open = await house('');
        await page.goto(origin('evil.test'));
        await page.evaluate(attempt, { url: open.url, body: BODY });
        await nextLine(open);
        assert.equal(up.calls, 1, 'it is an attempt');
      });
    }

    for (const host of ['evil.test', 'localhost', '127.0.0.1']) {
      test(`by the official SDK, from ${host}`, async () => {
        const through = await house(OWN_KEY);
        await page.goto(origin(host));
        const told = await page.evaluate(refusal, { url: through.url, apiKey: 'anything' });
        assert.deepEqual(told, { isConnection: true, status: undefined });
        assert.equal((await nextLine(through))['error.kind'], 'forbidden');
        assert.equal(up.calls, 0);
      });
    }

    test('by a name that it has let point to this machine', async () => {
      const through = await house(OWN_KEY);
      const url = through.url.replace('127.0.0.1', 'evil.test');
      const told = await fromRebound(page, url);
      assert.deepEqual([told.status, told.body.error.code], [403, 'forbidden']);
      assert.equal(up.calls, 0);

      const listed = await house(`${OWN_KEY}[limits]\nhosts = "evil.test"\n`);
      const welcome = await fromRebound(page, listed.url.replace('127.0.0.1', 'evil.test'));
      assert.equal(welcome.status, 200, 'its name is all that is wrong with it');
      assert.equal(up.calls, 1);
    });
  });

  describe('of a listed origin works', () => {
    const ASKED = [
      ['MISS', { content: 'one', stream: false }],
      ['HIT', { content: 'one', stream: false }],
      ['MISS', { content: 'two', stream: true }],
      ['HIT', { content: 'two', stream: true }],
    ];

    for (const [name, settings, apiKey] of [
      ["with a caller's key", OWN_KEY + CALLERS, CALLER_KEY],
      ['where no key has to be shown', OWN_KEY, 'anything'],
      ["with the upstream's key", '', 'sk-of-the-user'],
    ]) {
      test(name, async () => {
        const listed = `[cors]\norigins = ["${origin('app.test')}", "https://other.test"]\n`;
        const through = await house(settings + listed);
        await page.goto(origin('app.test'));
        for (const [verdict, asked] of ASKED) {
          const told = await page.evaluate(chat, { url: through.url, apiKey, ...asked });
          assert.deepEqual(told, [verdict, ANSWER]);
          // The SDK goes on at `[DONE]`, the answer is stored at the end of the stream.
          await nextLine(through);
          while ((await metric(through.admin, 'refrain_stored_total')) < up.credentials.length);
        }
        const sent = settings ? 'Bearer sk-the-proxys-own' : 'Bearer sk-of-the-user';
        assert.deepEqual(up.credentials, [sent, sent]);
      });
    }

    test("and shows a caller's key where it can send no header", async () => {
      const through = await house(OWN_KEY + CALLERS);
      await page.goto(origin('app.test'));
      await page.evaluate(
        ({ url, apiKey }) => {
          new WebSocket(`${url}/realtime`.replace('http', 'ws'), ['realtime', `openai-insecure-api-key.${apiKey}`]);
        },
        { url: through.url, apiKey: CALLER_KEY },
      );
      assert.equal((await nextLine(through)).caller, 'web');
      assert.deepEqual(up.credentials, ['Bearer sk-the-proxys-own']);
    });

    test('and no other one, though it knows a key', async () => {
      const through = await house(`${OWN_KEY}${CALLERS}[cors]\norigins = "${origin('app.test')}"\n`);
      await page.goto(origin('evil.test'));
      const told = await page.evaluate(refusal, { url: through.url, apiKey: CALLER_KEY });
      assert.deepEqual(told, { isConnection: true, status: undefined });
      assert.equal((await nextLine(through))['error.kind'], 'invalid_api_key');
      assert.equal(up.calls, 0);
    });

    test('and reads why it is refused', async () => {
      const through = await house(`${OWN_KEY}${CALLERS}[cors]\norigins = "*"\n`);
      await page.goto(origin('app.test'));
      const told = await page.evaluate(refusal, { url: through.url, apiKey: 'sk-invented' });
      assert.deepEqual(told, { isConnection: false, status: 401 });
      assert.equal(up.calls, 0);
    });
  });
});

/**
 * Asks from a page of `url`'s own origin. It is the proxy's answer to a probe, refused or not: whoever sent the page, it is
 * its origin that counts, and only a page of this machine gets past Chromium's own guard of the local network.
 */
async function fromRebound(page, url) {
  await page.goto(new URL('/_refrain/healthz', url).href);
  return page.evaluate(
    async ([target, body]) => {
      const headers = { authorization: 'Bearer anything', 'content-type': 'application/json' };
      const answer = await fetch(target, { method: 'POST', headers, body });
      return { status: answer.status, body: await answer.json() };
    },
    [`${url}/chat/completions`, BODY],
  );
}
