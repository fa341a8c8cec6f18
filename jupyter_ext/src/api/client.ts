import { URLExt } from '@jupyterlab/coreutils';
import { ServerConnection } from '@jupyterlab/services';
import { UUID } from '@lumino/coreutils';

import { Refusal } from './refusal';
import { Problem, Summary } from './types';

export { Refusal, refusalOf } from './refusal';

/** Asks the server extension. Token, XSRF and base URL are Jupyter's own settings. */
export class Client {
  constructor(settings: ServerConnection.ISettings) {
    this._settings = settings;
    this._base = URLExt.join(settings.baseUrl, 'modelyard', 'api', 'v1');
  }

  /** What changed; `summary` is null where that is nothing. */
  async summary(
    query: { near?: string; project?: string },
    etag: string | null
  ): Promise<{ summary: Summary | null; etag: string | null }> {
    const address = this._base + '/summary' + search({ ...query });
    const headers: Record<string, string> = etag ? { 'If-None-Match': etag } : {};
    const answer = await this._fetch(address, { headers });
    if (answer.status === 304) {
      return { summary: null, etag };
    }
    return { summary: (await bodyOf(answer)) as Summary, etag: answer.headers.get('ETag') };
  }

  /** Ask something about a project. */
  async get<T>(project: string, path: string[], query: Record<string, string> = {}): Promise<T> {
    return (await bodyOf(await this._fetch(this.address(project, path, query), {}))) as T;
  }

  /** Change something; the same key again changes nothing more and gives the first answer again. */
  async post<T>(project: string, path: string[], body: unknown, key?: string): Promise<T> {
    const answer = await this._fetch(this.address(project, path), {
      method: 'POST',
      body: JSON.stringify(body),
      headers: { 'Content-Type': 'application/json', 'Idempotency-Key': key ?? UUID.uuid4() }
    });
    return (await bodyOf(answer)) as T;
  }

  /** Where something of a project is; each part is encoded whole, so that a name may hold `/`. */
  address(project: string, path: string[], query: Record<string, string> = {}): string {
    const parts = ['projects', project, ...path].map(encodeURIComponent);
    return `${this._base}/${parts.join('/')}${search(query)}`;
  }

  private async _fetch(address: string, init: RequestInit): Promise<Response> {
    // Jupyter's own `no-store` adds the time to every address, which the server takes for a question it does not know.
    return ServerConnection.makeRequest(address, { cache: 'default', ...init }, this._settings);
  }

  private readonly _settings: ServerConnection.ISettings;
  private readonly _base: string;
}

function search(query: Record<string, string | undefined>): string {
  const given = Object.entries(query).filter((pair): pair is [string, string] => !!pair[1]);
  return given.length ? '?' + new URLSearchParams(given).toString() : '';
}

async function bodyOf(answer: Response): Promise<unknown> {
  const text = await answer.text();
  let body: unknown = null;
  try {
    body = JSON.parse(text);
  } catch {
    // a proxy's page, or Jupyter's own: said below
  }
  if (!answer.ok) {
    throw new Refusal(answer.status, problemOf(answer.status, body));
  }
  return body;
}

function problemOf(status: number, body: unknown): Problem {
  const said = (body ?? {}) as Partial<Problem>;
  if (typeof said.code === 'string' && typeof said.message === 'string') {
    return { hint: '', plugin: null, details: {}, ...said } as Problem;
  }
  const missing = status === 404;
  return {
    code: missing ? 'server-extension-missing' : 'server-refused',
    message: missing
      ? 'the server extension modelyard_jupyter is not enabled in this Jupyter server'
      : `the Jupyter server answered ${status}${said.message ? `: ${said.message}` : ''}`,
    hint: missing ? 'jupyter server extension enable modelyard_jupyter' : 'reload the page',
    plugin: null,
    details: {}
  };
}
