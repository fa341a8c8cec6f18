import { ReactWidget } from '@jupyterlab/apputils';
import * as React from 'react';

import { CommandIDs } from '../commandids';
import { Light } from '../components/bits';
import { h } from '../components/h';
import { Surroundings, useApp, useSignal } from '../components/hooks';
import { YardModel } from '../model/yard';
import { PanelContext } from '../sections';

/** What runs and what fires, in the status bar; a click shows the panel. */
export function statusWidget(model: YardModel, context: PanelContext): ReactWidget {
  const widget = ReactWidget.create(
    <Surroundings.Provider value={context}>
      <Status model={model} />
    </Surroundings.Provider>
  );
  widget.addClass('modelyard-Status');
  return widget;
}

function Status(props: { model: YardModel }): JSX.Element {
  const { trans, commands } = useApp();
  const { model } = props;
  useSignal(model.overview.changed);
  useSignal(model.runs.changed);
  const overview = model.overview.state.data;
  if (!overview) {
    return <></>;
  }
  const { alerts, running } = overview;
  const name = running === 1 ? model.runs.runningName : null;
  return (
    <button
      type="button"
      className="modelyard-StatusButton"
      title={trans.__('Modelyard: show the panel')}
      onClick={() => void commands.execute(CommandIDs.showPanel)}
    >
      {running > 0 && <Light kind="running" word={name ?? trans._n('%1 run', '%1 runs', running, running)} />}
      {alerts.length > 0 && (
        <Light kind="warning" word={trans._n('%1 alert', '%1 alerts', alerts.length, alerts.length)} />
      )}
      {running === 0 && alerts.length === 0 && <Light kind="ok" word={overview.name} />}
    </button>
  );
}
