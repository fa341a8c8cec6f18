import * as React from 'react';

import { CommandIDs } from '../commandids';
import type { ModelList, ModelRow, PromotionPlan, VersionRow } from '../api/types';
import { ItemKey, TreeState, itemsOf, keyOf, stepFrom } from '../model/tree';
import type { YardModel } from '../model/yard';
import { SectionCommands } from '../sections/commands';
import { useDone } from '../sections/doings';
import { Answer } from './answer';
import { Button, Chip, Facts, Light, Time } from './bits';
import { h } from './h';
import { useApp } from './hooks';
import { GateList } from './promote';
import { SectionBody } from './section';

const CODE = `with yard.run("my-model") as run:
    run.log_model(model, name="my-model", example=X[:5])`;

/** The section Models: registered models, their versions, and what one can do with them. */
export function Models(props: { model: YardModel }): JSX.Element {
  const { trans, commands, notify } = useApp();
  const { model } = props;
  const register = () => {
    if (commands.isEnabled(CommandIDs.registerRun)) {
      void commands.execute(CommandIDs.registerRun);
    } else {
      notify(trans.__('Select a run in the section Runs first.'));
    }
  };
  return (
    <SectionBody
      section={model.models}
      trans={trans}
      isEmpty={data => !data.rows.length}
      empty={{
        sentence: trans.__('No model is registered yet: a run makes a version when it logs a model.'),
        code: CODE,
        action: { label: trans.__('Register the model of the selected run…'), run: register }
      }}
    >
      {data => <Tree data={data} model={model} />}
    </SectionBody>
  );
}

function Tree(props: { data: ModelList; model: YardModel }): JSX.Element {
  const { trans } = useApp();
  const { data, model } = props;
  const [shut, setShut] = React.useState<TreeState>(new Set());
  const [told, setTold] = React.useState<TreeState>(new Set());
  const [at, setAt] = React.useState<ItemKey>('');
  const tree = React.useRef<HTMLUListElement>(null);
  const items = itemsOf(data, shut);
  const current = items.some(item => item.key === at) ? at : (items[0]?.key ?? '');

  const goTo = (key: ItemKey) => {
    setAt(key);
    tree.current?.querySelector<HTMLElement>(`[data-key="${CSS.escape(key)}"]`)?.focus();
  };
  const toggle = (key: ItemKey, version: boolean) =>
    version ? setTold(toggled(told, key)) : setShut(toggled(shut, key));
  const onKeyDown = (event: React.KeyboardEvent) => {
    const target = event.target as HTMLElement;
    if (target.getAttribute('role') !== 'treeitem') {
      return; // a button inside: its keys are its own
    }
    const step = stepFrom(items, current, event.key, told);
    if (step) {
      event.preventDefault();
      event.stopPropagation();
      if (step.toggle) {
        toggle(current, items.find(item => item.key === current)?.parent !== null);
      }
      goTo(step.to);
    }
  };
  const shared: Shared = { current, told, goTo, toggle, model };
  return (
    <ul
      ref={tree}
      className="modelyard-Tree"
      role="tree"
      aria-label={trans.__('Models')}
      onKeyDown={onKeyDown}
    >
      {data.rows.map(row => (
        <ModelItem key={row.name} row={row} open={!shut.has(keyOf(row.name))} {...shared} />
      ))}
    </ul>
  );
}

/** What all items of the tree need. */
interface Shared {
  current: ItemKey;
  told: TreeState;
  goTo: (key: ItemKey) => void;
  toggle: (key: ItemKey, version: boolean) => void;
  model: YardModel;
}

function ModelItem(props: Shared & { row: ModelRow; open: boolean }): JSX.Element {
  const { trans } = useApp();
  const { row, open, current, goTo, toggle } = props;
  const key = keyOf(row.name);
  const count = trans._n('%1 version', '%1 versions', row.versions.length);
  return (
    <li
      role="treeitem"
      aria-level={1}
      aria-expanded={open}
      aria-selected={current === key}
      aria-label={`${row.name}, ${count}`}
      tabIndex={current === key ? 0 : -1}
      data-key={key}
    >
      <div
        className="modelyard-Tree-row"
        onClick={() => {
          toggle(key, false);
          goTo(key);
        }}
      >
        <span aria-hidden="true" className="modelyard-Tree-twist">
          {open ? '▾' : '▸'}
        </span>
        <strong className="modelyard-Tree-name">{row.name}</strong>
        <span className="modelyard-Hint">{count}</span>
      </div>
      {open && (
        <ul role="group">
          {row.versions.map(version => (
            <VersionItem key={version.version} name={row.name} version={version} {...props} />
          ))}
        </ul>
      )}
    </li>
  );
}

function VersionItem(props: Shared & { name: string; version: VersionRow }): JSX.Element {
  const { trans } = useApp();
  const { name, version, current, told, goTo, toggle, model } = props;
  const key = keyOf(name, version.version);
  const open = told.has(key);
  const said = [
    trans.__('version %1', version.version),
    ...version.aliases,
    ...version.serving.map(place => trans.__('serves %1', place))
  ];
  return (
    <li
      role="treeitem"
      aria-level={2}
      aria-expanded={open}
      aria-selected={current === key}
      aria-label={said.join(', ')}
      tabIndex={current === key ? 0 : -1}
      data-key={key}
    >
      <div
        className="modelyard-Tree-row"
        onClick={() => {
          toggle(key, true);
          goTo(key);
        }}
      >
        <span aria-hidden="true" className="modelyard-Tree-twist">
          {open ? '▾' : '▸'}
        </span>
        <span className="modelyard-Tree-name">{trans.__('version %1', version.version)}</span>
        {version.aliases.map(alias => (
          <Chip key={alias} strong={alias === 'production'}>
            {alias}
          </Chip>
        ))}
        {version.serving.length > 0 && (
          <span className="modelyard-Hint" title={version.serving.join(', ')}>
            <span aria-hidden="true">⇄ </span>
            {version.serving.join(', ')}
          </span>
        )}
      </div>
      {open && <VersionBody name={name} version={version} model={model} />}
    </li>
  );
}

function VersionBody(props: { name: string; version: VersionRow; model: YardModel }): JSX.Element {
  const { trans, commands } = useApp();
  const { name, version, model } = props;
  const [gates, setGates] = React.useState(false);
  const which = { model: name, version: version.version };
  const held = version.aliases.includes('production') ? 'production' : version.aliases[0];
  return (
    <div className="modelyard-Tree-body" role="group" aria-label={`${name}/${version.version}`}>
      <Facts rows={factsOf(version, trans, commands)} />
      <div className="modelyard-Buttons">
        <Button main onClick={() => void commands.execute(SectionCommands.promote, which)}>
          {trans.__('Promote…')}
        </Button>
        {held && (
          <Button
            onClick={() =>
              void commands.execute(SectionCommands.rollBack, { model: name, alias: held })
            }
          >
            {trans.__('Roll back…')}
          </Button>
        )}
        <Button aria-expanded={gates} onClick={() => setGates(!gates)}>
          {trans.__('Gates')}
        </Button>
        <Button onClick={() => void commands.execute(SectionCommands.openModel, which)}>
          {trans.__('Details')}
        </Button>
        <Button onClick={() => void commands.execute(SectionCommands.insertModelCode, which)}>
          {trans.__('Insert code')}
        </Button>
      </div>
      {gates && <GatesOnDemand model={model} name={name} version={version.version} />}
    </div>
  );
}

function factsOf(
  version: VersionRow,
  trans: ReturnType<typeof useApp>['trans'],
  commands: ReturnType<typeof useApp>['commands']
): [string, React.ReactNode][] {
  const { run_id: run, promoted_by: by } = version;
  return [
    [
      trans.__('Made'),
      <>
        <Time at={version.created} /> {trans.__('by %1', version.user)}
      </>
    ],
    [
      trans.__('Run'),
      run ? (
        <Button
          className="modelyard-mod-link"
          onClick={() => void commands.execute(CommandIDs.openRun, { run })}
        >
          {run.slice(0, 8)}
        </Button>
      ) : (
        trans.__('none')
      )
    ],
    [
      trans.__('Serves'),
      version.serving.length ? version.serving.join(', ') : trans.__('nowhere')
    ],
    [trans.__('Promoted by'), by ?? trans.__('nobody')],
    [
      trans.__('Signature'),
      <Light
        kind={version.signature ? 'ok' : 'warning'}
        word={version.signature ? trans.__('stated') : trans.__('missing')}
      />
    ]
  ];
}

function GatesOnDemand(props: { model: YardModel; name: string; version: string }): JSX.Element {
  const { trans } = useApp();
  const { model, name, version } = props;
  const ask = () =>
    model.get<PromotionPlan>(['models', name, 'promotion'], { version, alias: 'production' });
  return (
    <div className="modelyard-GatesOnDemand">
      <p className="modelyard-Hint">{trans.__('What the gates say about production:')}</p>
      <Answer model={model} ask={ask} about={`${name}/${version} ${useDone(model)}`}>
        {plan => <GateList gates={plan.gates} />}
      </Answer>
    </div>
  );
}

function toggled(known: TreeState, key: ItemKey): TreeState {
  const next = new Set(known);
  if (!next.delete(key)) {
    next.add(key);
  }
  return next;
}
