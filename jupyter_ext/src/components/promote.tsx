import * as React from 'react';

import type { Gate, PromotionPlan, Side } from '../api/types';
import type { Promoting } from '../model/dialogs';
import { GateLine, NONE, SideLine, compareSides, gateLine } from '../model/promotion';
import { Button, Light, Time } from './bits';
import { Field, Refused, Row, Table } from './fields';
import { h } from './h';
import { useApp, useSignal } from './hooks';

/** Milliseconds without a letter after which an alias is taken for whole. */
const WHOLE = 600;

/** The body of the dialog Promote. */
export function PromoteBody(props: { form: Promoting; aliases: readonly string[] }): JSX.Element {
  const { trans } = useApp();
  const { form } = props;
  useSignal(form.changed);
  const { plan, typed, faults } = form;
  return (
    <div className="modelyard-FormBody">
      <p className="modelyard-FormBody-way">{wayOf(form, trans.__('nobody'))}</p>
      <Race said={form.race} />
      {form.refused && <Refused problem={form.refused} />}
      {form.problem && <Refused problem={form.problem} retry={() => void form.load()} />}
      <AliasField form={form} aliases={props.aliases} />
      {!plan && !form.problem && <p role="status">{trans.__('Asking the gates…')}</p>}
      {plan && <Sides plan={plan} />}
      {plan && <Gates gates={plan.gates} />}
      <ReasonField
        fault={faults.reason}
        reason={typed.reason}
        type={reason => form.type({ reason })}
      />
      {plan?.must_type && (
        <Field label={trans.__('Type %1 to confirm', plan.must_type)} fault={faults.name}>
          {field => (
            <input
              {...field}
              type="text"
              autoComplete="off"
              spellCheck={false}
              aria-required
              value={typed.name}
              onChange={event => form.type({ name: event.target.value })}
            />
          )}
        </Field>
      )}
      {faults.plan && (
        <p role="alert" className="modelyard-Fault">
          {faults.plan}
        </p>
      )}
      {form.busy && <p role="status">{trans.__('Promoting…')}</p>}
    </div>
  );
}

/** Who was faster, in both dialogs; nothing where nobody was. */
export function Race(props: { said: string }): JSX.Element | null {
  const { trans } = useApp();
  return props.said ? (
    <div role="alert" className="modelyard-Race">
      <strong>{trans.__('Somebody was faster:')}</strong> {props.said}.{' '}
      {trans.__('Below is how it stands now. Your reason is kept.')}
    </div>
  ) : null;
}

/** The field for the reason, in both dialogs. */
export function ReasonField(props: {
  reason: string;
  fault?: string;
  type: (reason: string) => void;
}): JSX.Element {
  const { trans } = useApp();
  return (
    <Field label={trans.__('Reason (stands in the ledger)')} fault={props.fault}>
      {field => (
        <textarea
          {...field}
          className="modelyard-Reason"
          rows={2}
          maxLength={2000}
          aria-required
          value={props.reason}
          onChange={event => props.type(event.target.value)}
        />
      )}
    </Field>
  );
}

/** What every gate says: in words and by a mark, with its value and limit. */
export function Gates(props: { gates: readonly Gate[] }): JSX.Element {
  const { trans } = useApp();
  if (!props.gates.length) {
    return <p>{trans.__('No gate applies: gates.toml names none for this alias.')}</p>;
  }
  const head = [
    trans.__('Gate'),
    trans.__('Result'),
    trans.__('Value'),
    trans.__('Limit'),
    trans.__('It says')
  ];
  return (
    <Table label={trans.__('Gates')} head={head}>
      {props.gates.map((gate, place) => {
        const line = gateLine(gate, trans);
        return (
          <Row
            key={place}
            about={line.name}
            className={line.passed ? undefined : 'modelyard-mod-refused'}
            cells={[<Passed line={line} />, line.value, line.limit, line.message]}
          />
        );
      })}
    </Table>
  );
}

/** The same in little room: one line per gate. */
export function GateList(props: { gates: readonly Gate[] }): JSX.Element {
  const { trans } = useApp();
  if (!props.gates.length) {
    return <p>{trans.__('No gate applies: gates.toml names none for this alias.')}</p>;
  }
  return (
    <ul className="modelyard-Lines" aria-label={trans.__('Gates')}>
      {props.gates.map((gate, place) => {
        const line = gateLine(gate, trans);
        return (
          <li key={place}>
            <Passed line={line} />{' '}
            <strong>{line.name}</strong>
            <div className="modelyard-Hint">
              {line.message}
              {line.limit !== NONE && ` (${line.limit})`}
            </div>
          </li>
        );
      })}
    </ul>
  );
}

function Passed(props: { line: GateLine }): JSX.Element {
  const { trans } = useApp();
  return props.line.passed ? (
    <Light kind="ok" word={trans.__('passed')} />
  ) : (
    <Light kind="failed" word={trans.__('failed')} />
  );
}

function AliasField(props: { form: Promoting; aliases: readonly string[] }): JSX.Element {
  const { trans } = useApp();
  const { form } = props;
  const [alias, setAlias] = React.useState(form.alias);
  const known = React.useId();
  const take = React.useCallback(() => {
    if (alias.trim()) {
      void form.towards(alias.trim());
    }
  }, [alias, form]);
  // Every letter would be another alias, and asking the gates may take seconds.
  React.useEffect(() => {
    const timer = window.setTimeout(take, WHOLE);
    return () => window.clearTimeout(timer);
  }, [take]);
  return (
    <Field label={trans.__('Alias')}>
      {field => (
        <>
          <input
            {...field}
            type="text"
            list={known}
            spellCheck={false}
            value={alias}
            onChange={event => setAlias(event.target.value)}
            onBlur={take}
          />
          <datalist id={known}>
            {props.aliases.map(name => (
              <option key={name} value={name} />
            ))}
          </datalist>
        </>
      )}
    </Field>
  );
}

function Sides(props: { plan: PromotionPlan }): JSX.Element {
  const { trans } = useApp();
  const { plan } = props;
  const [all, setAll] = React.useState(false);
  const lines = compareSides(plan, trans);
  const shown = all ? lines : lines.filter(line => line.group !== 'param' || line.differs);
  const hidden = lines.length - shown.length;
  const head = [
    trans.__('What'),
    <>
      {plan.champion
        ? trans.__('Champion: version %1', plan.champion.version)
        : trans.__('Champion: nobody')}
      {plan.champion && <Maker side={plan.champion} />}
    </>,
    <>
      {trans.__('Candidate: version %1', plan.candidate.version)}
      <Maker side={plan.candidate} />
    </>,
    trans.__('Difference')
  ];
  return (
    <>
      <Table label={trans.__('Side by side')} head={head}>
        {shown.map(line => (
          <SideRow key={`${line.group} ${line.name}`} line={line} />
        ))}
      </Table>
      {(hidden > 0 || all) && (
        <div className="modelyard-Buttons">
          <Button aria-pressed={all} onClick={() => setAll(!all)}>
            {trans.__('All parameters')}
          </Button>
        </div>
      )}
    </>
  );
}

function SideRow(props: { line: SideLine }): JSX.Element {
  const { trans } = useApp();
  const { line } = props;
  const groups: Record<SideLine['group'], string> = {
    metric: trans.__('metric'),
    param: trans.__('parameter'),
    data: trans.__('data'),
    signature: '',
    drift: ''
  };
  const about = (
    <>
      {groups[line.group] && <span className="modelyard-Hint">{groups[line.group]} </span>}
      {line.name}
    </>
  );
  const difference = line.differs ? `≠ ${line.change || trans.__('differs')}` : '';
  return (
    <Row
      about={about}
      className={line.differs ? 'modelyard-mod-differs' : undefined}
      cells={[line.champion, line.candidate, difference]}
    />
  );
}

function Maker(props: { side: Side }): JSX.Element {
  const { trans } = useApp();
  return (
    <div className="modelyard-Hint">
      {trans.__('by %1', props.side.user)}, <Time at={props.side.created} />
    </div>
  );
}

/** `production of late-flights: version 1 → version 2`. */
function wayOf(form: Promoting, nobody: string): React.ReactNode {
  const { plan } = form;
  const before = plan ? (plan.champion?.version ?? nobody) : '…';
  return (
    <>
      {form.model} <strong>{form.alias}</strong>: {before} → <strong>{form.version}</strong>
    </>
  );
}
