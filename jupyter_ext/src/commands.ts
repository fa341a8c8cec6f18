import { JupyterFrontEnd } from '@jupyterlab/application';
import { InputDialog } from '@jupyterlab/apputils';
import { ReadonlyJSONObject, ReadonlyPartialJSONObject } from '@lumino/coreutils';

import { refusalOf } from './api/refusal';
import { RunDetails, RunRow, VersionRow } from './api/types';
import { CommandIDs } from './commandids';
import { runCode } from './model/code';
import { YardModel } from './model/yard';
import { LabNotebooks } from './notebooks';
import { PanelContext } from './sections';
import { PANEL_ID } from './widgets/panel';
import { TabArgs, Tabs } from './widgets/tabs';

type Args = ReadonlyPartialJSONObject;

/** Those that the palette offers; the run is the one that the keyboard is at. */
export const PALETTE = [
  CommandIDs.showPanel,
  CommandIDs.refresh,
  CommandIDs.chooseProject,
  CommandIDs.doctor,
  CommandIDs.openRun,
  CommandIDs.compareRuns,
  CommandIDs.insertRunCode,
  CommandIDs.copyRunId,
  CommandIDs.starRun,
  CommandIDs.registerRun,
  CommandIDs.goToCell
];

const TEXT = { type: 'string' };
const RUN = { run: { ...TEXT, description: 'The id of a run; the one that the list is at unless named.' } };

function described(properties: Record<string, object>): { args: ReadonlyJSONObject } {
  return { args: { type: 'object', properties } as ReadonlyJSONObject };
}

/** What the commands work on. */
export interface Workshop {
  app: JupyterFrontEnd;
  model: YardModel;
  context: PanelContext;
  tabs: Tabs;
  notebooks: LabNotebooks | null;
}

/** Make every action of the panel, of Overview and of Runs known to JupyterLab. */
export function addCommands(shop: Workshop): void {
  addPanelCommands(shop);
  addTabCommands(shop);
  addRunCommands(shop);
  addCellCommands(shop);
}

function addPanelCommands({ app, model, context }: Workshop): void {
  const { commands, trans } = context;
  commands.addCommand(CommandIDs.showPanel, {
    label: trans.__('Show Modelyard'),
    caption: trans.__('Show the panel with runs, data, models, endpoints and drift'),
    describedBy: described({}),
    execute: () => app.shell.activateById(PANEL_ID)
  });
  commands.addCommand(CommandIDs.refresh, {
    label: trans.__('Refresh Modelyard'),
    describedBy: described({}),
    execute: () => model.refresh()
  });
  commands.addCommand(CommandIDs.chooseProject, {
    label: trans.__('Choose Project…'),
    describedBy: described({
      project: { ...TEXT, description: 'Its id; empty: the project of the active document.' }
    }),
    isEnabled: () => (model.summary?.projects.length ?? 0) > 1,
    execute: async (args: Args) => {
      const project = typeof args.project === 'string' ? args.project : await askProject(model, context);
      if (project !== null) {
        model.choose(project || null);
      }
    }
  });
  commands.addCommand(CommandIDs.doctor, {
    label: trans.__('Open Doctor'),
    caption: trans.__('Check every tool of the project'),
    describedBy: described({}),
    execute: () => context.openTab('doctor', {})
  });
}

async function askProject(model: YardModel, context: PanelContext): Promise<string | null> {
  const { trans } = context;
  const projects = model.summary?.projects ?? [];
  const items = projects.map(one => `${one.name} (${one.folder})`);
  const answer = await InputDialog.getItem({ title: trans.__('Project'), items });
  const index = answer.button.accept ? items.indexOf(answer.value ?? '') : -1;
  return index < 0 ? null : projects[index].id;
}

function addTabCommands({ context, tabs, model }: Workshop): void {
  const { commands, trans } = context;
  commands.addCommand(CommandIDs.openTab, {
    label: trans.__('Open a Modelyard Tab'),
    describedBy: described({
      kind: { ...TEXT, description: 'run, compare, source, doctor, or one that another section registered.' },
      args: { type: 'object', description: 'What it shows.' }
    }),
    execute: (args: Args) => tabs.open(String(args.kind), (args.args ?? {}) as TabArgs)
  });
  commands.addCommand(CommandIDs.openRun, {
    label: trans.__('Open Run'),
    caption: trans.__('Metrics, parameters, data and code of a run'),
    describedBy: described(RUN),
    isEnabled: args => idIn(args, model) !== null,
    execute: (args: Args) => context.openTab('run', { run: idIn(args, model)! })
  });
  commands.addCommand(CommandIDs.compareRuns, {
    label: trans.__('Compare Runs'),
    caption: trans.__('The selected runs side by side'),
    describedBy: described({
      runs: { type: 'array', items: TEXT, minItems: 2, maxItems: 8, description: 'Ids; the selected ones.' }
    }),
    execute: (args: Args) => {
      const runs = Array.isArray(args.runs) ? (args.runs as string[]) : model.runs.selection.ids;
      if (runs.length < 2 || runs.length > 8) {
        context.notify(trans.__('Select 2 to 8 runs to compare; now it is %1.', runs.length), 'warning');
      } else {
        context.openTab('compare', { runs });
      }
    }
  });
}

function addRunCommands({ context, model }: Workshop): void {
  const { commands, trans } = context;
  const onRun = (id: string, label: string, caption: string, execute: (run: string) => unknown) =>
    commands.addCommand(id, {
      label,
      caption,
      describedBy: described(RUN),
      isEnabled: args => idIn(args, model) !== null,
      execute: async (args: Args) => {
        await execute(idIn(args, model)!);
      }
    });
  onRun(
    CommandIDs.insertRunCode,
    trans.__('Insert Code That Loads the Run'),
    trans.__('Into the active cell, at its cursor'),
    run => context.insertCode(runCode(run))
  );
  onRun(CommandIDs.copyRunId, trans.__('Copy Run Id'), '', async run => {
    await navigator.clipboard.writeText(run);
    context.notify(trans.__('Copied %1.', run));
  });
  onRun(CommandIDs.starRun, trans.__('Star Run, or No Longer'), '', run => model.runs.star(run));
  onRun(
    CommandIDs.registerRun,
    trans.__('Register Model…'),
    trans.__('Make the model that the run logged a version'),
    run => register(run, model, context)
  );
}

async function register(run: string, model: YardModel, context: PanelContext): Promise<void> {
  const { trans } = context;
  const row = await rowOf(run, model, context);
  if (!row) {
    return;
  }
  if (!row.models.length) {
    context.notify(trans.__('The run %1 logged no model: call run.log_model in it.', row.name), 'warning');
    return;
  }
  const answer = await InputDialog.getText({
    title: trans.__('Register the model of %1', row.name),
    label: trans.__('Name of the model'),
    text: row.models[0],
    okLabel: trans.__('Register')
  });
  const name = answer.value?.trim();
  if (!answer.button.accept || !name) {
    return;
  }
  try {
    const version = await model.post<VersionRow>(['runs', run, 'register'], { name });
    context.notify(trans.__('%1/%2 is registered.', name, version.version), 'success');
  } catch (fault) {
    const { message, hint } = refusalOf(fault).problem;
    context.notify(hint ? `${message}: ${hint}` : message, 'error');
  }
}

function addCellCommands({ context, model, notebooks }: Workshop): void {
  const { commands, trans } = context;
  commands.addCommand(CommandIDs.goToCell, {
    label: trans.__('Go to Cell'),
    caption: trans.__('Open the notebook at the cell that started the run'),
    describedBy: described({
      ...RUN,
      notebook: { ...TEXT, description: 'Its path, relative to the project; that of the run unless named.' },
      cell: { ...TEXT, description: 'The id of the cell.' }
    }),
    isEnabled: args => notebooks !== null && (!!args.notebook || idIn(args, model) !== null),
    execute: async (args: Args) => {
      const run = idIn(args, model);
      const row = args.notebook ? null : await rowOf(run!, model, context);
      const notebook = (args.notebook as string | undefined) ?? row?.notebook;
      const cell = (args.cell as string | undefined) ?? row?.cell ?? '';
      if (!notebook) {
        context.notify(trans.__('This run was not started in a notebook.'), 'warning');
        return;
      }
      await goToCell({ notebook, cell, run: (args.run as string | undefined) ?? row?.id ?? null });
    }
  });

  async function goToCell(goal: { notebook: string; cell: string; run: string | null }): Promise<void> {
    const path = await notebooks!.find(model.project?.folder ?? '.', goal.notebook);
    if (path === null) {
      context.notify(
        trans.__('The notebook %1 is not where it was when the run began.', goal.notebook),
        'warning'
      );
    } else if (await notebooks!.go(path, goal.cell)) {
      return;
    } else if (goal.run === null) {
      context.notify(trans.__('The cell is no longer in %1.', path), 'warning');
    }
    if (goal.run !== null) {
      context.openTab('source', { run: goal.run, path: path ?? goal.notebook });
    }
  }
}

/** The run that a command is about. */
function idIn(args: Args, model: YardModel): string | null {
  return typeof args.run === 'string' ? args.run : model.runs.selection.current;
}

/** A run, from the list or the server; what goes wrong is told. */
async function rowOf(run: string, model: YardModel, context: PanelContext): Promise<RunRow | null> {
  try {
    return model.runs.byId(run) ?? (await model.get<RunDetails>(['runs', run])).row;
  } catch (fault) {
    context.notify(refusalOf(fault).problem.message, 'error');
    return null;
  }
}
