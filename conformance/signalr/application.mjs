// The application of the suite, an example of the server: a hub with methods, in a program of its own.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { within } from '../common/hearing.mjs';

const { DUPLEX_APPLICATION } = process.env;

export class Application {
  #child;

  static async launch() {
    if (!DUPLEX_APPLICATION) throw new Error('set DUPLEX_APPLICATION to the path of the example signalr_suite');
    const own = new Application();
    own.#child = spawn(DUPLEX_APPLICATION, ['127.0.0.1:0'], { stdio: ['pipe', 'pipe', 'inherit'] });
    [own.url] = await within(once(createInterface(own.#child.stdout), 'line'), 'the application');
    return own;
  }

  /** It ends when its input does. */
  async stop() {
    const ended = once(this.#child, 'exit');
    this.#child.stdin.end();
    await within(ended, "the application's end");
  }
}
