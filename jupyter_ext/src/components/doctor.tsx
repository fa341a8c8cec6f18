import * as React from 'react';

import { YardModel } from '../model/yard';
import { Answer } from './answer';
import { Button, Copyable, Light, LightKind } from './bits';
import { h } from './h';
import { useApp } from './hooks';

interface Checks {
  checks: { name: string; status: string; message: string; hint: string }[];
}

/** The tab with every check of `modelyard doctor`. */
export function DoctorTab(props: { model: YardModel }): JSX.Element {
  const { trans } = useApp();
  const kinds: Record<string, LightKind> = { ok: 'ok', warning: 'warning', failed: 'failed' };
  return (
    <Answer model={props.model} ask={() => props.model.get<Checks>(['doctor'])} about="">
      {({ checks }, again) => (
        <>
          <h1>{trans.__('Doctor')}</h1>
          <table className="modelyard-Table">
            <thead>
              <tr>
                <th scope="col">{trans.__('Check')}</th>
                <th scope="col">{trans.__('State')}</th>
                <th scope="col">{trans.__('What it found')}</th>
              </tr>
            </thead>
            <tbody>
              {checks.map((check, index) => (
                <tr key={index}>
                  <th scope="row">{check.name}</th>
                  <td>
                    <Light kind={kinds[check.status] ?? 'unknown'} word={check.status} />
                  </td>
                  <td>
                    {check.message}
                    {check.hint && check.status !== 'ok' && <Copyable code={check.hint} />}
                  </td>
                </tr>
              ))}
            </tbody>
          </table>
          <div className="modelyard-Buttons">
            <Button onClick={again}>{trans.__('Check again')}</Button>
          </div>
        </>
      )}
    </Answer>
  );
}
