import { InputDialog } from '@jupyterlab/apputils';
import type { ReadonlyJSONObject, ReadonlyPartialJSONObject } from '@lumino/coreutils';

import { refusalOf } from '../api/refusal';
import type { EndpointRow, VersionDetails } from '../api/types';
import { jobWords } from '../model/transfer';
import type { YardModel } from '../model/yard';
import type { PanelContext } from '../sections';
import { doingsOf } from './doings';
import { promote, rollBack } from './moves';

/** The actions of the sections Models, Serving, Drift and Data. */
export namespace SectionCommands {
  export const promote = 'modelyard:promote';
  export const rollBack = 'modelyard:roll-back';
  export const openModel = 'modelyard:open-model';
  export const insertModelCode = 'modelyard:insert-model-code';
  export const openEndpoint = 'modelyard:open-endpoint';
  export const tryRequest = 'modelyard:try-request';
  export const setTraffic = 'modelyard:set-traffic';
  export const openReport = 'modelyard:open-report';
  export const pushData = 'modelyard:push-data';
  export const pullData = 'modelyard:pull-data';
}

/** All of them, for the palette. What an action is missing there, it asks for. */
export const paletteCommands: string[] = Object.values(SectionCommands);

type Args = ReadonlyPartialJSONObject;

const TEXT = { type: 'string' };
const VERSION = {
  model: { ...TEXT, description: 'The name of the registered model.' },
  version: { ...TEXT, description: 'Its version.' }
};
const ENDPOINT = { endpoint: { ...TEXT, description: 'The name of the endpoint.' } };
const NAMES = {
  names: { type: 'array', items: TEXT, description: 'The data sets; none means all.' }
};

/** Make the actions known to JupyterLab. */
export function registerCommands(model: YardModel, app: PanelContext): void {
  addMoves(model, app);
  addTabs(model, app);
  addTraffic(model, app);
  addTransfers(model, app);
}

function addMoves(model: YardModel, app: PanelContext): void {
  const { commands, trans } = app;
  commands.addCommand(SectionCommands.promote, {
    label: trans.__('Promote a Version…'),
    caption: trans.__('Give an alias to a version, if its gates pass'),
    describedBy: described({
      ...VERSION,
      alias: { ...TEXT, description: 'The alias that it gets; production unless named.' }
    }),
    execute: async args => {
      const chosen = await versionIn(args, model, app);
      if (chosen) {
        await promote(model, app, { ...chosen, alias: text(args.alias) });
      }
    }
  });
  commands.addCommand(SectionCommands.rollBack, {
    label: trans.__('Roll Back a Model…'),
    caption: trans.__('Give an alias back to the last version that was deployed well'),
    describedBy: described({
      model: VERSION.model,
      alias: { ...TEXT, description: 'The alias that goes back; production unless named.' },
      reason: { ...TEXT, description: 'The reason that the dialog begins with.' }
    }),
    execute: async args => {
      const name = text(args.model) ?? (await choose(await modelNames(model), app, trans.__('Model')));
      if (name) {
        const alias = text(args.alias) ?? 'production';
        await rollBack(model, app, { model: name, alias, reason: text(args.reason) });
      }
    }
  });
}

function addTabs(model: YardModel, app: PanelContext): void {
  const { commands, trans } = app;
  commands.addCommand(SectionCommands.openModel, {
    label: trans.__('Open a Model Version…'),
    caption: trans.__('Lineage, history, signature and tags of a version'),
    describedBy: described(VERSION),
    execute: async args => {
      const chosen = await versionIn(args, model, app);
      if (chosen) {
        app.openTab('model', chosen);
      }
    }
  });
  commands.addCommand(SectionCommands.insertModelCode, {
    label: trans.__('Insert Code That Loads a Model Version…'),
    caption: trans.__('Into the active cell, at its cursor'),
    describedBy: described(VERSION),
    execute: async args => {
      const chosen = await versionIn(args, model, app);
      if (chosen) {
        const path = ['models', chosen.model, 'versions', chosen.version];
        await reported(app, async () =>
          app.insertCode((await model.get<VersionDetails>(path)).load_code)
        );
      }
    }
  });
  const openEndpoint = (id: string, label: string, caption: string, more: { part?: string }) =>
    commands.addCommand(id, {
      label,
      caption,
      describedBy: described(ENDPOINT),
      execute: async args => {
        const endpoint = await endpointIn(args, model, app);
        if (endpoint) {
          app.openTab('endpoint', { endpoint });
          if (more.part) {
            focusIn(endpoint, more.part);
          }
        }
      }
    });
  openEndpoint(
    SectionCommands.openEndpoint,
    trans.__('Open an Endpoint…'),
    trans.__('Revisions, log and history of an endpoint'),
    {}
  );
  openEndpoint(
    SectionCommands.tryRequest,
    trans.__('Try a Request…'),
    trans.__('Ask an endpoint about rows'),
    { part: '.modelyard-Try textarea' }
  );
  commands.addCommand(SectionCommands.openReport, {
    label: trans.__('Open a Drift Report…'),
    caption: trans.__('The whole report about an endpoint; making it can take a minute'),
    describedBy: described({
      ...ENDPOINT,
      version: { ...TEXT, description: 'The model version; the newest unless named.' }
    }),
    execute: async args => {
      const endpoint = await endpointIn(args, model, app);
      if (endpoint) {
        const version = text(args.version);
        app.openTab('report', version ? { endpoint, version } : { endpoint });
      }
    }
  });
}

function addTraffic(model: YardModel, app: PanelContext): void {
  const { commands, trans } = app;
  commands.addCommand(SectionCommands.setTraffic, {
    label: trans.__('Set Canary Traffic…'),
    caption: trans.__('Which share of the traffic the newest revision gets'),
    describedBy: described({
      ...ENDPOINT,
      canary: { type: 'integer', minimum: 0, maximum: 100, description: 'Percent.' }
    }),
    execute: async args => {
      const endpoint = await endpointIn(args, model, app);
      const canary = endpoint && (await canaryIn(args, app));
      if (!endpoint || typeof canary !== 'number') {
        return;
      }
      await reported(app, async () => {
        const path = ['endpoints', endpoint, 'traffic'];
        const row = await model.post<EndpointRow>(path, { canary });
        const said = trans.__('The newest revision of %1 gets %2 % now.', row.name, canary);
        app.notify(said, 'success');
        await doingsOf(model).tell();
      });
    }
  });
}

function addTransfers(model: YardModel, app: PanelContext): void {
  const { commands, trans } = app;
  const add = (id: string, what: 'push' | 'pull', label: string, caption: string) =>
    commands.addCommand(id, {
      label,
      caption,
      describedBy: described(NAMES),
      execute: args =>
        reported(app, async () => {
          const names = Array.isArray(args.names) ? args.names.map(String) : [];
          const job = await doingsOf(model).transfer(what, names);
          if (job.state === 'finished') {
            app.notify(jobWords(job, trans), 'success');
          }
        })
    });
  add(
    SectionCommands.pushData,
    'push',
    trans.__('Push Data'),
    trans.__('Copy to the remote what it lacks')
  );
  add(
    SectionCommands.pullData,
    'pull',
    trans.__('Pull Data'),
    trans.__('Bring the current versions here')
  );
}

// -- what an action is missing ---------------------------------------------------------------

async function versionIn(
  args: Args,
  model: YardModel,
  app: PanelContext
): Promise<{ model: string; version: string } | null> {
  const [name, version] = [text(args.model), text(args.version)];
  if (name && version) {
    return { model: name, version };
  }
  const rows = (await loaded(model.models))?.rows ?? [];
  const all = rows
    .filter(row => !name || row.name === name)
    .flatMap(row => row.versions.map(one => ({ model: row.name, version: one.version })));
  const shown = all.map(one => `${one.model}/${one.version}`);
  const chosen = await choose(shown, app, app.trans.__('Version'));
  return chosen === undefined ? null : all[shown.indexOf(chosen)];
}

async function modelNames(model: YardModel): Promise<string[]> {
  return ((await loaded(model.models))?.rows ?? []).map(row => row.name);
}

async function endpointIn(
  args: Args,
  model: YardModel,
  app: PanelContext
): Promise<string | undefined> {
  const named = text(args.endpoint);
  if (named) {
    return named;
  }
  const names = ((await loaded(model.serving))?.rows ?? []).map(row => row.name);
  return choose(names, app, app.trans.__('Endpoint'));
}

async function canaryIn(args: Args, app: PanelContext): Promise<number | null> {
  if (typeof args.canary === 'number') {
    return args.canary;
  }
  const { trans } = app;
  const answer = await InputDialog.getNumber({
    title: trans.__('Share of the newest revision in percent'),
    value: 0
  });
  return answer.button.accept ? answer.value : null;
}

/** One of several; the only one is not asked for. */
async function choose(
  items: string[],
  app: PanelContext,
  title: string
): Promise<string | undefined> {
  if (!items.length) {
    app.notify(app.trans.__('There is nothing to choose from yet.'), 'info');
    return undefined;
  }
  if (items.length === 1) {
    return items[0];
  }
  const answer = await InputDialog.getItem({ title, items });
  return answer.button.accept && answer.value !== null ? answer.value : undefined;
}

/** What a section knows, asked for where nobody has looked yet. */
async function loaded<T>(section: {
  state: { data: T | null };
  refresh(): Promise<void>;
}): Promise<T | null> {
  if (section.state.data === null) {
    await section.refresh();
  }
  return section.state.data;
}

/** Do something; a refusal is told in a corner of the window. */
async function reported(app: PanelContext, work: () => Promise<void>): Promise<void> {
  try {
    await work();
  } catch (fault) {
    const { problem } = refusalOf(fault);
    app.notify([problem.message, problem.hint].filter(Boolean).join(': '), 'error');
  }
}

/**
 * Put the focus into a tab that may still be drawn. JupyterLab gives it to the tab as a whole at some time
 * after it was opened: then it goes on to the place. Wherever else somebody puts it, it stays.
 */
function focusIn(
  endpoint: string,
  selector: string,
  from = document.activeElement,
  waits = 600,
  tries = 40
): void {
  const tabs = [...document.querySelectorAll<HTMLElement>('.modelyard-EndpointTab')];
  const place = tabs
    .find(tab => tab.dataset.endpoint === endpoint)
    ?.querySelector<HTMLElement>(selector);
  const at = document.activeElement;
  if (place && at !== place && (at === from || !at || at.contains(place))) {
    place.focus();
  }
  const [more, again] = place ? [waits, tries - 1] : [waits - 1, tries];
  if (more && again) {
    window.setTimeout(() => focusIn(endpoint, selector, from, more, again), 100);
  }
}

function described(properties: Record<string, unknown>): { args: ReadonlyJSONObject } {
  return { args: { type: 'object', properties } as ReadonlyJSONObject };
}

function text(value: unknown): string | undefined {
  return typeof value === 'string' && value ? value : undefined;
}
