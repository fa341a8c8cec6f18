import { Notification } from '@jupyterlab/apputils';
import { INotebookTracker } from '@jupyterlab/notebook';
import { TranslationBundle } from '@jupyterlab/translation';
import { CommandRegistry } from '@lumino/commands';

import { CommandIDs } from './commandids';
import { Offer, PanelContext } from './sections';
import { TabArgs } from './widgets/tabs';

/** What sections and tabs need, from what JupyterLab gives. Without notebooks code goes to the clipboard. */
export class Context implements PanelContext {
  constructor(
    readonly commands: CommandRegistry,
    readonly trans: TranslationBundle,
    private readonly _notebooks: INotebookTracker | null
  ) {}

  insertCode(code: string): void {
    const cell = this._notebooks?.activeCell;
    if (!cell || cell.model.type !== 'code') {
      void navigator.clipboard.writeText(code);
      this.notify(this.trans.__('No code cell is active: the code was copied instead.'), 'warning');
      return;
    }
    const { editor } = cell;
    if (editor?.replaceSelection) {
      editor.replaceSelection(code);
    } else {
      cell.model.sharedModel.setSource(cell.model.sharedModel.getSource() + code);
    }
    this.notify(this.trans.__('Inserted into the active cell.'), 'info');
  }

  notify(
    message: string,
    kind: 'success' | 'info' | 'warning' | 'error' = 'info',
    offers: Offer[] = []
  ): void {
    Notification.emit(message, kind, {
      autoClose: offers.length || kind === 'error' ? 15_000 : 4_000,
      actions: offers.map(offer => ({ label: offer.label, callback: offer.run }))
    });
  }

  openTab(kind: string, args: TabArgs): void {
    void this.commands.execute(CommandIDs.openTab, { kind, args });
  }
}
