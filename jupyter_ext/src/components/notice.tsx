import { refreshIcon } from '@jupyterlab/ui-components';
import * as React from 'react';

import { CommandIDs } from '../commandids';
import { YardModel } from '../model/yard';
import { Button } from './bits';
import { h } from './h';
import { useApp, useSignal } from './hooks';
import { Empty, Failure, Waiting } from './section';

/** What is to be said about the whole panel: no server, no project, two versions. */
export function Notice(props: { model: YardModel }): JSX.Element {
  const { trans } = useApp();
  const { model } = props;
  useSignal(model.changed);
  const { problem, mismatch, summary, project } = model;
  return (
    <>
      {problem && (
        <Failure
          problem={problem}
          status={null}
          trans={trans}
          retry={() => void model.refresh()}
          doctor={false}
        />
      )}
      {mismatch && (
        <p role="alert" className="modelyard-Failure">
          {trans.__(
            'The panel is version %1 and its server %2. Restart the Jupyter server, then reload this page; if it stays so: pip install --upgrade "modelyard[jupyter]".',
            mismatch.panel,
            mismatch.server
          )}
        </p>
      )}
      {!problem && summary && !project && (
        <Empty
          sentence={trans.__(
            'There is no Modelyard project in the folders of this Jupyter server. Make one in a terminal:'
          )}
          code="modelyard init"
          action={{ label: trans.__('Look again'), run: () => void model.look() }}
        />
      )}
    </>
  );
}

/** Draws a section where there is a project to draw. */
export function Gate(props: { model: YardModel; children: React.ReactNode }): JSX.Element {
  const { trans } = useApp();
  const { model } = props;
  useSignal(model.changed);
  if (model.project) {
    return <>{props.children}</>;
  }
  if (model.summary || model.problem) {
    return <p className="modelyard-Empty modelyard-Hint">{trans.__('Nothing to show yet.')}</p>;
  }
  return <Waiting trans={trans} />;
}

/** Loads everything in sight anew. JupyterLab's own toolbar buttons have an attribute that screen readers stumble on. */
export function RefreshButton(): JSX.Element {
  const { trans, commands } = useApp();
  return (
    <Button
      className="modelyard-mod-icon"
      aria-label={trans.__('Refresh')}
      title={trans.__('Refresh')}
      onClick={() => void commands.execute(CommandIDs.refresh)}
    >
      <refreshIcon.react tag="span" />
    </Button>
  );
}

/** Chooses the project; without a choice it is the one of the active document. */
export function ProjectChoice(props: { model: YardModel }): JSX.Element {
  const { trans, commands } = useApp();
  const { model } = props;
  useSignal(model.changed);
  const { summary, project } = model;
  if (!summary || !project) {
    return <span className="modelyard-Project">Modelyard</span>;
  }
  if (summary.projects.length < 2) {
    return (
      <span className="modelyard-Project" title={project.folder}>
        {project.name} · {summary.target}
      </span>
    );
  }
  return (
    <select
      className="modelyard-Input"
      aria-label={trans.__('Project')}
      title={trans.__('Project, target %1', summary.target)}
      value={model.chosen ?? ''}
      onChange={event => void commands.execute(CommandIDs.chooseProject, { project: event.target.value })}
    >
      <option value="">{trans.__('%1 (of the document)', project.name)}</option>
      {summary.projects.map(one => (
        <option key={one.id} value={one.id}>
          {one.name} ({one.folder})
        </option>
      ))}
    </select>
  );
}
