import { ReactWidget } from '@jupyterlab/apputils';
import { IRenderMime } from '@jupyterlab/rendermime-interfaces';
import { Message } from '@lumino/messaging';
import * as React from 'react';

import { CommandIDs } from '../commandids';
import { Button, RunStatus } from '../components/bits';
import { h } from '../components/h';
import { Surroundings, useApp, useSignal } from '../components/hooks';
import { number } from '../model/format';
import { YardModel } from '../model/yard';
import { cellOf, linkRun } from '../notebooks';
import { PanelContext } from '../sections';

/** What a kernel emits for a run that starts or ends in a cell. */
export const RUN_MIME = 'application/vnd.modelyard.run+json';

interface RunBundle {
  project: string;
  run: string;
  name: string;
  status: string;
  metrics: Record<string, number | null>;
}

/** Draws runs in the outputs of cells as chips, and links cell and run. */
export function chipFactory(model: YardModel, context: PanelContext): IRenderMime.IRendererFactory {
  return {
    safe: true,
    mimeTypes: [RUN_MIME],
    defaultRank: 40,
    createRenderer: () => new ChipWidget(model, context)
  };
}

class ChipWidget extends ReactWidget implements IRenderMime.IRenderer {
  constructor(
    private readonly _model: YardModel,
    private readonly _context: PanelContext
  ) {
    super();
    this.addClass('modelyard-RunChip');
  }

  async renderModel(model: IRenderMime.IMimeModel): Promise<void> {
    this._bundle = model.data[RUN_MIME] as unknown as RunBundle;
    this.update();
    await this.renderPromise;
    this._link();
  }

  protected render(): JSX.Element {
    return this._bundle ? (
      <Surroundings.Provider value={this._context}>
        <RunChip model={this._model} bundle={this._bundle} />
      </Surroundings.Provider>
    ) : (
      <></>
    );
  }

  protected onAfterAttach(message: Message): void {
    super.onAfterAttach(message);
    this._link();
  }

  private _link(): void {
    const cell = this._bundle && cellOf(this);
    if (cell && linkRun(cell, this._bundle!.run)) {
      void this._model.look(); // the list need not wait for the next poll
    }
  }

  private _bundle: RunBundle | null = null;
}

function RunChip(props: { model: YardModel; bundle: RunBundle }): JSX.Element {
  const { trans, commands } = useApp();
  const { model, bundle } = props;
  useSignal(model.runs.changed);
  // A saved output may say "running" of a run that ended long ago: what the list knows is newer.
  const row = model.runs.byId(bundle.run) ?? bundle;
  const { mainMetric } = model.runs;
  const metric = mainMetric !== null && mainMetric in row.metrics ? mainMetric : Object.keys(row.metrics)[0];
  return (
    <span className="modelyard-Chip modelyard-mod-run">
      <RunStatus status={row.status} /> <strong>{row.name}</strong>
      {metric !== undefined && (
        <span>
          {metric} {number(row.metrics[metric])}
        </span>
      )}
      <Button
        aria-label={trans.__('Open run %1', row.name)}
        onClick={() => void commands.execute(CommandIDs.openRun, { run: bundle.run })}
      >
        {trans.__('Open run')}
      </Button>
    </span>
  );
}
