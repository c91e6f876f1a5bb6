// What the Node checks stand on: the binary, and an upstream that plays back the recordings in `fixtures/`.
//
// The scripted upstream answers a chat call by its model: `text` is `fixtures/text.json`, or `fixtures/text.sse` when
// a stream is asked for, without its usage unless that is asked for, too. `cut` is the stream of `text` broken off after three events, `hold` the same kept open.
// `cut-once` is `text`, but its first call is broken off after five events, once `openGate` is called. `busy-once` is `text`, but its first
// call is a 429 that asks for a second of patience. What has no body, such as a list of models, gets an empty object.

import { spawn } from 'node:child_process';
import { EventEmitter, on } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import http from 'node:http';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { createInterface } from 'node:readline';

const HERE = import.meta.dirname;
const BINARY = resolve(process.env.REFRAIN_BIN ?? join(HERE, '../../target/debug/refrain'));

/** Returns the bytes of a recording as text. */
export const recording = (name) => readFileSync(join(HERE, 'fixtures', name), 'utf8');

const events = (name) =>
  recording(name)
    .split('\n\n')
    .filter(Boolean)
    .map((event) => `${event}\n\n`);

/** Returns a recorded stream as it is for who does not ask for the usage. */
const silent = (name) =>
  events(name)
    .filter((event) => !event.includes('"choices":[],"usage"'))
    .map((event) => event.replace(',"usage":null', ''))
    .join('');

/**
 * Runs a scripted upstream; `calls` counts the calls, without the icons that a browser asks for itself, `credentials` are what they brought as `Authorization`,
 * `retries` what the SDK says of its own, `givenUp` settles when a held stream loses its client.
 */
export async function scripted() {
  const upstream = { calls: 0, credentials: [], retries: [] };
  const noticed = Promise.withResolvers();
  const gate = Promise.withResolvers();
  const server = http.createServer(async (request, answer) => {
    if (request.url === '/favicon.ico') {
      answer.writeHead(404).end();
      return;
    }
    upstream.calls += 1;
    upstream.credentials.push(request.headers.authorization);
    const body = (await request.toArray()).join('');
    if (!body) {
      answer.end('{}');
      return;
    }
    const asked = JSON.parse(body);
    upstream.retries.push(request.headers['x-stainless-retry-count']);
    if (['cut-once', 'busy-once'].includes(asked.model) && upstream.calls > 1) asked.model = 'text';
    if (asked.model === 'busy-once') {
      answer.writeHead(429, { 'content-type': 'application/json', 'retry-after': '1' }).end(recording('busy.json'));
      return;
    }
    const streams = asked.stream || ['cut', 'hold'].includes(asked.model);
    answer.writeHead(200, {
      'content-type': streams ? 'text/event-stream' : 'application/json',
      'x-request-id': `req-${upstream.calls}`,
    });
    answer.flushHeaders();
    if (asked.model === 'hold') {
      answer.on('close', noticed.resolve);
      events('text.sse').slice(0, 3).forEach((event) => answer.write(event));
    } else if (asked.model === 'cut-once') {
      answer.write(events('text.sse').slice(0, 5).join(''));
      await gate.promise;
      answer.socket.end();
    } else if (asked.model === 'cut') {
      // The socket ends only when the events have left: no last chunk follows them.
      answer.write(events('text.sse').slice(0, 3).join(''), () => answer.socket.end());
    } else {
      const told = asked.stream_options?.include_usage ? recording : silent;
      answer.end(streams ? told(`${asked.model}.sse`) : recording(`${asked.model}.json`));
    }
  });
  await new Promise((listening) => server.listen(0, '127.0.0.1', listening));
  return Object.assign(upstream, {
    url: `http://127.0.0.1:${server.address().port}/v1`,
    givenUp: noticed.promise,
    openGate: gate.resolve,
    stop: () => {
      server.closeAllConnections();
      server.close();
    },
  });
}

/** Runs the binary until its banner has a line that begins with each of `announced`; returns the rests of those. */
async function refrain(args, announced, settings = '') {
  const home = mkdtempSync(join(tmpdir(), 'refrain-'));
  writeFileSync(join(home, 'proxy.toml'), settings);
  const ours = Object.entries(process.env).filter(([name]) => !name.startsWith('REFRAIN_'));
  const child = spawn(BINARY, args, {
    cwd: home,
    env: { ...Object.fromEntries(ours), XDG_CACHE_HOME: home, REFRAIN_STORE__BUDGET: '10s' },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const gone = new Promise((ended) => child.on('exit', ended));
  const stop = async () => {
    child.kill('SIGKILL');
    await gone;
    rmSync(home, { recursive: true });
  };
  const log = new EventEmitter();
  createInterface({ input: child.stderr }).on('line', (line) => log.emit('line', line));
  const found = {};
  for await (const line of createInterface({ input: child.stdout })) {
    for (const start of announced) {
      if (line.startsWith(start)) found[start] = line.slice(start.length).trim();
    }
    if (Object.keys(found).length === announced.length) {
      child.stdout.resume();
      return { urls: announced.map((start) => found[start]), log, stop };
    }
  }
  await stop();
  throw new Error(`the binary ended before it announced ${announced}`);
}

/**
 * Runs the proxy in front of `upstream`, with these lines of configuration. `calls` yields the log's line of each call from
 * then on.
 */
export async function proxy(upstream, settings = '') {
  const listen = ['--listen', '127.0.0.1:0', '--admin', '127.0.0.1:0', '--upstream', upstream];
  const args = [...listen, '--log-format', 'json', '--config', 'proxy.toml'];
  const { urls, log, stop } = await refrain(args, ['export OPENAI_BASE_URL=', 'admin '], settings);
  const calls = async function* () {
    for await (const [line] of lines) {
      const entry = JSON.parse(line);
      if (entry.message === 'call') yield entry;
    }
  };
  const lines = on(log, 'line');
  return { url: urls[0], admin: urls[1], calls: calls(), stop };
}

/** Returns the value of a metric without labels. */
export async function metric(admin, name) {
  const page = await (await fetch(`${admin}/metrics`)).text();
  const line = page.split('\n').find((line) => line.startsWith(`${name} `));
  return Number(line.split(' ')[1]);
}

/** Runs the mock. */
export async function mock() {
  const { urls, stop } = await refrain(['mock', '--listen', '127.0.0.1:0'], ['mock ']);
  return { url: urls[0], stop };
}

/** Runs a web server with an empty page, and with the SDK's modules below `/openai/`. */
export async function website() {
  const modules = join(HERE, 'node_modules');
  const server = http.createServer((request, answer) => {
    const path = new URL(request.url, 'http://localhost').pathname;
    const file = resolve(join(modules, path));
    if (path === '/') {
      answer.setHeader('content-type', 'text/html').end('<!doctype html><title>an app</title>');
    } else if (file.startsWith(join(modules, 'openai/')) && existsSync(file)) {
      answer.setHeader('content-type', 'text/javascript').end(readFileSync(file));
    } else {
      answer.writeHead(404).end();
    }
  });
  await new Promise((listening) => server.listen(0, '127.0.0.1', listening));
  return {
    port: server.address().port,
    stop: () => {
      server.closeAllConnections();
      server.close();
    },
  };
}
