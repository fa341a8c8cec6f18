import * as React from 'react';

import type { LineageNode, Move, VersionDetails } from '../api/types';
import { Answer } from '../components/answer';
import { Button, Chip, Copyable, Facts, Light, Time } from '../components/bits';
import { Row, Table } from '../components/fields';
import { h } from '../components/h';
import { useApp } from '../components/hooks';
import { CommandIDs } from '../commandids';
import { absolute } from '../model/format';
import type { YardModel } from '../model/yard';
import { SectionCommands } from '../sections/commands';
import { useDone } from '../sections/doings';

/** The tab of one version: what stands behind it, what became of it, how to load it. */
export function ModelTab(props: {
  model: YardModel;
  name: string;
  version: string;
}): JSX.Element {
  const { model, name, version } = props;
  const ask = () => model.get<VersionDetails>(['models', name, 'versions', version]);
  return (
    <Answer model={model} ask={ask} about={`${name}/${version} ${useDone(model)}`}>
      {details => <Details details={details} />}
    </Answer>
  );
}

function Details(props: { details: VersionDetails }): JSX.Element {
  const { trans } = useApp();
  const { details } = props;
  const tags = Object.entries(details.tags);
  return (
    <>
      <h1>{trans.__('%1 version %2', details.model, details.row.version)}</h1>
      <Actions details={details} />
      <Story details={details} />
      <h2>{trans.__('Lineage')}</h2>
      {details.lineage ? (
        <ul className="modelyard-Lineage" aria-label={trans.__('Lineage')}>
          <Ancestor node={details.lineage} />
        </ul>
      ) : (
        <p>{trans.__('Nothing is known about what stands behind it.')}</p>
      )}
      <h2>{trans.__('History')}</h2>
      <Moves moves={details.history} />
      <h2>{trans.__('Signature')}</h2>
      <Signature inputs={details.inputs} />
      {tags.length > 0 && (
        <>
          <h2>{trans.__('Tags')}</h2>
          <Facts rows={tags} />
        </>
      )}
      <h2>{trans.__('Load it')}</h2>
      <Copyable code={details.load_code} insert />
    </>
  );
}

function Actions(props: { details: VersionDetails }): JSX.Element {
  const { trans, commands } = useApp();
  const { model, row } = props.details;
  const which = { model, version: row.version };
  return (
    <div className="modelyard-Buttons">
      <Button main onClick={() => void commands.execute(SectionCommands.promote, which)}>
        {trans.__('Promote…')}
      </Button>
      {row.aliases.map(alias => (
        <Button
          key={alias}
          onClick={() => void commands.execute(SectionCommands.rollBack, { model, alias })}
        >
          {trans.__('Roll back %1…', alias)}
        </Button>
      ))}
      <Button onClick={() => void commands.execute(SectionCommands.insertModelCode, which)}>
        {trans.__('Insert into cell')}
      </Button>
    </div>
  );
}

function Story(props: { details: VersionDetails }): JSX.Element {
  const { trans, commands } = useApp();
  const { row, digest } = props.details;
  const run = row.run_id;
  return (
    <Facts
      rows={[
        [
          trans.__('Aliases'),
          row.aliases.length
            ? row.aliases.map(alias => <Chip key={alias}>{alias}</Chip>)
            : trans.__('none')
        ],
        [trans.__('Promoted by'), row.promoted_by ?? trans.__('nobody')],
        [
          trans.__('Serves'),
          row.serving.length ? row.serving.join(', ') : trans.__('nowhere')
        ],
        [
          trans.__('Made'),
          <>
            {absolute(row.created)} (<Time at={row.created} />) {trans.__('by %1', row.user)}
          </>
        ],
        [
          trans.__('Run'),
          run ? (
            <Button
              className="modelyard-mod-link"
              onClick={() => void commands.execute(CommandIDs.openRun, { run })}
            >
              {run}
            </Button>
          ) : (
            trans.__('none')
          )
        ],
        [trans.__('Digest'), digest ? <code>{digest}</code> : '–']
      ]}
    />
  );
}

function Ancestor(props: { node: LineageNode }): JSX.Element {
  const { trans } = useApp();
  const { node } = props;
  return (
    <li>
      <span className="modelyard-Chip">{node.kind}</span> {node.title}
      {node.details.length > 0 && (
        <ul className="modelyard-Lines">
          {node.details.map(line => (
            <li key={line}>{line}</li>
          ))}
        </ul>
      )}
      {node.parents.length > 0 && (
        <details open>
          <summary>{trans._n('%1 thing behind it', '%1 things behind it', node.parents.length)}</summary>
          <ul>
            {node.parents.map((parent, place) => (
              <Ancestor key={place} node={parent} />
            ))}
          </ul>
        </details>
      )}
    </li>
  );
}

/** Lines of the ledger, newest first. */
export function Moves(props: { moves: readonly Move[] }): JSX.Element {
  const { trans } = useApp();
  if (!props.moves.length) {
    return <p>{trans.__('The ledger has no line about it.')}</p>;
  }
  const head = [
    trans.__('When'),
    trans.__('Who'),
    trans.__('What'),
    trans.__('From → to'),
    trans.__('Reason'),
    trans.__('State'),
    trans.__('Entry')
  ];
  return (
    <Table label={trans.__('Ledger')} head={head}>
      {props.moves.map(move => (
        <MoveRow key={move.id} move={move} />
      ))}
    </Table>
  );
}

function MoveRow(props: { move: Move }): JSX.Element {
  const { trans } = useApp();
  const { move } = props;
  const actions: Record<Move['action'], string> = {
    promote: trans.__('promoted'),
    rollback: trans.__('rolled back'),
    external: trans.__('moved outside Modelyard')
  };
  const nobody = trans.__('nobody');
  return (
    <Row
      about={<Time at={move.time} />}
      cells={[
        move.user,
        <>
          {actions[move.action]} <Chip>{move.alias}</Chip>
        </>,
        `${move.from_version ?? nobody} → ${move.to_version ?? nobody}`,
        move.reason,
        <MoveState move={move} />,
        <code>{move.id}</code>
      ]}
    />
  );
}

function MoveState(props: { move: Move }): JSX.Element {
  const { trans } = useApp();
  const { status, deployed } = props.move;
  if (status === 'pending') {
    return <Light kind="running" word={trans.__('under way')} />;
  }
  if (status === 'abandoned') {
    return <Light kind="failed" word={trans.__('given up')} />;
  }
  return deployed === false ? (
    <Light kind="failed" word={trans.__('not deployed')} />
  ) : (
    <Light kind="ok" word={deployed ? trans.__('deployed') : trans.__('done')} />
  );
}

function Signature(props: { inputs: readonly (readonly [string, string])[] }): JSX.Element {
  const { trans } = useApp();
  if (!props.inputs.length) {
    return <p>{trans.__('It states no columns.')}</p>;
  }
  return (
    <Table label={trans.__('Columns')} head={[trans.__('Column'), trans.__('Type')]}>
      {props.inputs.map(([name, type]) => (
        <Row key={name} about={name} cells={[type]} />
      ))}
    </Table>
  );
}
