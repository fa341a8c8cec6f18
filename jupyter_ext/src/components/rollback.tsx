import type { RollbackPlan } from '../api/types';
import type { RollingBack } from '../model/dialogs';
import { goodLines, whereTo } from '../model/promotion';
import { lasting } from '../model/words';
import { Time } from './bits';
import { Refused, Row, Table } from './fields';
import { h } from './h';
import { useApp, useSignal } from './hooks';
import { Race, ReasonField } from './promote';

/** The body of the dialog Roll back. */
export function RollbackBody(props: { form: RollingBack }): JSX.Element {
  const { trans } = useApp();
  const { form } = props;
  useSignal(form.changed);
  const { plan, faults } = form;
  return (
    <div className="modelyard-FormBody">
      <p className="modelyard-FormBody-way">
        {form.model} <strong>{form.alias}</strong>:{' '}
        {plan ? whereTo(plan.current, plan.to, trans) : '…'}
      </p>
      <Race said={form.race} />
      {form.refused && <Refused problem={form.refused} />}
      {form.problem && <Refused problem={form.problem} retry={() => void form.load()} />}
      {!plan && !form.problem && <p role="status">{trans.__('Reading the ledger…')}</p>}
      {plan && plan.good.length > 0 && <GoodVersions plan={plan} />}
      <ReasonField
        fault={faults.reason}
        reason={form.typed.reason}
        type={reason => form.type({ reason })}
      />
      {faults.plan && (
        <p role="alert" className="modelyard-Fault">
          {faults.plan}
        </p>
      )}
      {form.busy && <p role="status">{trans.__('Rolling back…')}</p>}
    </div>
  );
}

function GoodVersions(props: { plan: RollbackPlan }): JSX.Element {
  const { trans } = useApp();
  const { good, current, to } = props.plan;
  const marks = { now: trans.__('● in service now'), next: trans.__('◀ goes back to this'), '': '' };
  const head = [
    trans.__('Version'),
    trans.__('Time in service'),
    trans.__('Since'),
    trans.__('Reason then'),
    trans.__('Now')
  ];
  return (
    <Table label={trans.__('Last good versions')} head={head}>
      {goodLines(good, current, to).map(line => (
        <Row
          key={line.good.since}
          about={line.good.version}
          className={line.mark && 'modelyard-mod-differs'}
          cells={[
            lasting(line.good.seconds, trans),
            <Time at={line.good.since} />,
            line.good.reason,
            marks[line.mark]
          ]}
        />
      ))}
    </Table>
  );
}
