// What the Node checks stand on: the binary, and an upstream that plays back the recordings in `fixtures/`.
//
// The scripted upstream answers a chat call by its model: `text` is `fixtures/text.json`, or `fixtures/text.sse` when
// a stream is asked for, without its usage unless that is asked for, too. `cut` is the stream of `text` broken off after three events, `hold` the same kept open.

import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
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

/** Runs a scripted upstream; `calls` counts the chat calls, `givenUp` settles when a held stream loses its client. */
export async function scripted() {
  const upstream = { calls: 0 };
  const noticed = Promise.withResolvers();
  const server = http.createServer(async (request, answer) => {
    const asked = JSON.parse((await request.toArray()).join(''));
    upstream.calls += 1;
    const streams = asked.stream || ['cut', 'hold'].includes(asked.model);
    answer.writeHead(200, {
      'content-type': streams ? 'text/event-stream' : 'application/json',
      'x-request-id': `req-${upstream.calls}`,
    });
    answer.flushHeaders();
    if (asked.model === 'hold') {
      answer.on('close', noticed.resolve);
      events('text.sse').slice(0, 3).forEach((event) => answer.write(event));
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
    stop: () => {
      server.closeAllConnections();
      server.close();
    },
  });
}

/** Runs the binary until its banner has a line that begins with each of `announced`; returns the rests of those. */
async function refrain(args, announced) {
  const home = mkdtempSync(join(tmpdir(), 'refrain-'));
  const ours = Object.entries(process.env).filter(([name]) => !name.startsWith('REFRAIN_'));
  const child = spawn(BINARY, args, {
    cwd: home,
    env: { ...Object.fromEntries(ours), XDG_CACHE_HOME: home },
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  const gone = new Promise((ended) => child.on('exit', ended));
  const stop = async () => {
    child.kill('SIGKILL');
    await gone;
    rmSync(home, { recursive: true });
  };
  const found = {};
  for await (const line of createInterface({ input: child.stdout })) {
    for (const start of announced) {
      if (line.startsWith(start)) found[start] = line.slice(start.length).trim();
    }
    if (Object.keys(found).length === announced.length) {
      child.stdout.resume();
      return { urls: announced.map((start) => found[start]), stop };
    }
  }
  await stop();
  throw new Error(`the binary ended before it announced ${announced}`);
}

/** Runs the proxy in front of `upstream`. */
export async function proxy(upstream) {
  const listen = ['--listen', '127.0.0.1:0', '--admin', '127.0.0.1:0', '--upstream', upstream];
  const { urls, stop } = await refrain(listen, ['export OPENAI_BASE_URL=', 'admin ']);
  return { url: urls[0], admin: urls[1], stop };
}

/** Runs the mock. */
export async function mock() {
  const { urls, stop } = await refrain(['mock', '--listen', '127.0.0.1:0'], ['mock ']);
  return { url: urls[0], stop };
}
