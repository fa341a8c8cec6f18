import { CommandRegistry } from '@lumino/commands';
import { Menu } from '@lumino/widgets';
import * as React from 'react';

import { RunRow } from '../api/types';
import { CommandIDs } from '../commandids';

/** The menu of a run, at the pointer, or below the row where a key opened it. Focus goes back afterwards. */
export function openRunMenu(commands: CommandRegistry, row: RunRow, event: React.MouseEvent): void {
  event.preventDefault();
  event.stopPropagation();
  const from = document.activeElement as HTMLElement | null;
  const menu = new Menu({ commands });
  menu.addClass('jp-ThemedContainer');
  const args = { run: row.id };
  for (const command of [
    CommandIDs.openRun,
    CommandIDs.insertRunCode,
    CommandIDs.copyRunId,
    CommandIDs.starRun,
    CommandIDs.goToCell,
    CommandIDs.registerRun
  ]) {
    menu.addItem({ command, args });
  }
  menu.aboutToClose.connect(() => {
    // The item's own command runs first: what it gave the focus to keeps it.
    window.setTimeout(() => {
      if (document.activeElement === document.body) {
        from?.focus();
      }
      menu.dispose();
    });
  });
  const box = event.currentTarget.getBoundingClientRect();
  const atPointer = event.clientX > 0 || event.clientY > 0;
  menu.open(atPointer ? event.clientX : box.left + 24, atPointer ? event.clientY : box.bottom);
}
