import { UUID } from '@lumino/coreutils';

import type { Move } from '../api/types';
import { h } from '../components/h';
import { Surroundings } from '../components/hooks';
import { PromoteBody } from '../components/promote';
import { RollbackBody } from '../components/rollback';
import { Promoting, RollingBack } from '../model/dialogs';
import type { YardModel } from '../model/yard';
import type { PanelContext } from '../sections';
import { Form } from './dialog';
import { doingsOf } from './doings';

/** Aliases that are offered even where nobody holds them yet. */
const USUAL = ['production', 'staging'];

/** Show the dialog Promote. Returns when it is closed. */
export async function promote(
  model: YardModel,
  app: PanelContext,
  wish: { model: string; version: string; alias?: string }
): Promise<void> {
  const { trans } = app;
  const form = new Promoting(
    model,
    wish.model,
    wish.version,
    wish.alias ?? USUAL[0],
    trans,
    UUID.uuid4
  );
  void form.load();
  await new Form({
    title: trans.__('Promote %1 version %2', wish.model, wish.version),
    accept: trans.__('Promote'),
    cancel: trans.__('Cancel'),
    first: 'textarea',
    body: (
      <Surroundings.Provider value={app}>
        <PromoteBody form={form} aliases={aliasesOf(model)} />
      </Surroundings.Provider>
    ),
    submit: async () => {
      const move = await form.submit();
      if (move) {
        tellPromoted(model, app, move);
      }
      return move !== null;
    },
    elsewhere: treeFocus
  }).launch();
}

/** Show the dialog Roll back. Returns when it is closed. */
export async function rollBack(
  model: YardModel,
  app: PanelContext,
  wish: { model: string; alias: string; reason?: string }
): Promise<void> {
  const { trans } = app;
  const form = new RollingBack(
    model,
    wish.model,
    wish.alias,
    wish.reason ?? '',
    trans,
    UUID.uuid4
  );
  void form.load();
  await new Form({
    title: trans.__('Roll back %1', wish.model),
    accept: trans.__('Roll back'),
    cancel: trans.__('Cancel'),
    first: 'textarea',
    body: (
      <Surroundings.Provider value={app}>
        <RollbackBody form={form} />
      </Surroundings.Provider>
    ),
    submit: async () => {
      const move = await form.submit();
      if (move) {
        app.notify(movedWords(app, move), 'success');
        void doingsOf(model).tell();
      }
      return move !== null;
    },
    elsewhere: treeFocus
  }).launch();
}

function tellPromoted(model: YardModel, app: PanelContext, move: Move): void {
  const { trans } = app;
  const undo = () => {
    // The notification takes its button away: what has the focus now gets it back after the dialog.
    treeFocus()?.focus();
    void rollBack(model, app, {
      model: move.model,
      alias: move.alias,
      reason: trans.__('Undo of %1', move.id)
    });
  };
  const offers = move.from_version === null ? [] : [{ label: trans.__('Undo…'), run: undo }];
  app.notify(movedWords(app, move), 'success', offers);
  void doingsOf(model).tell();
}

function movedWords(app: PanelContext, move: Move): string {
  return app.trans.__(
    '%1 version %2 is %3 now: ledger entry %4.',
    move.model,
    move.to_version ?? '–',
    move.alias,
    move.id
  );
}

function aliasesOf(model: YardModel): string[] {
  const rows = model.models.state.data?.rows ?? [];
  const held = rows.flatMap(row => row.versions.flatMap(version => version.aliases));
  return [...new Set([...USUAL, ...held])];
}

/** The place in the tree of models that takes the focus where what had it is gone. */
function treeFocus(): HTMLElement | null {
  return document.querySelector<HTMLElement>('.modelyard-Tree [role="treeitem"][tabindex="0"]');
}
