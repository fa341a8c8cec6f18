import { Dialog, ReactWidget } from '@jupyterlab/apputils';
import { Message } from '@lumino/messaging';
import * as React from 'react';

const FOCUSABLE = [
  'button:not([disabled])',
  'a[href]',
  'input:not([disabled])',
  'select:not([disabled])',
  'textarea:not([disabled])',
  '[tabindex]:not([tabindex="-1"])'
].join(',');

/** What a form is made of. */
export interface FormOptions {
  readonly title: string;
  readonly body: React.ReactElement;
  readonly accept: string;
  readonly cancel: string;
  /** The field that is focused first, as a CSS selector. */
  readonly first: string;
  /** Does the form's work. False: it stays open, and its body says why. */
  submit(): Promise<boolean>;
  /** Where the focus goes if what had it is gone. */
  elsewhere?(): HTMLElement | null;
}

/**
 * A dialog that closes only when its work is done: what was typed outlives a refusal.
 *
 * JupyterLab's own dialog closes with every press of a button, knows only the fields that are there when it
 * opens, and takes Enter in a text of several lines for "accept".
 */
export class Form extends Dialog<void> {
  constructor(private readonly options: FormOptions) {
    super({
      title: options.title,
      body: ReactWidget.create(options.body),
      buttons: [
        Dialog.cancelButton({ label: options.cancel }),
        Dialog.okButton({ label: options.accept })
      ],
      focusNodeSelector: options.first
    });
    this.addClass('modelyard-Form');
    // A real <dialog> since JupyterLab 4.5; before, nothing told what it is.
    if (!(this.node instanceof HTMLDialogElement)) {
      this.node.setAttribute('role', 'dialog');
      this.node.setAttribute('aria-modal', 'true');
    }
    this.node.setAttribute('aria-label', options.title);
  }

  /** Do the work for "accept", close for "cancel". */
  resolve(index?: number): void {
    if (index === 0) {
      super.resolve(index);
    } else {
      void this.work();
    }
  }

  protected _evtKeydown(event: KeyboardEvent): void {
    if (event.key === 'Tab') {
      this.cycle(event);
    } else if (event.key !== 'Enter' || this.accepts(event.target as HTMLElement)) {
      super._evtKeydown(event);
    }
  }

  protected onAfterDetach(msg: Message): void {
    super.onAfterDetach(msg);
    if (document.activeElement === document.body) {
      this.options.elsewhere?.()?.focus();
    }
  }

  private async work(): Promise<void> {
    const accept = this.content.querySelector<HTMLElement>('.jp-Dialog-footer .jp-mod-accept');
    accept?.setAttribute('aria-busy', 'true');
    const done = await this.options.submit();
    accept?.removeAttribute('aria-busy');
    if (done) {
      super.resolve(1);
    } else {
      // After React has drawn what is wrong.
      requestAnimationFrame(() =>
        this.content.querySelector<HTMLElement>('[aria-invalid="true"]')?.focus()
      );
    }
  }

  /** Whether Enter means "accept" here: in fields of one line and on the dialog's own buttons. */
  private accepts(target: HTMLElement): boolean {
    const own = target.closest('.jp-Dialog-footer') !== null;
    return own || target instanceof HTMLInputElement;
  }

  private cycle(event: KeyboardEvent): void {
    const places = [...this.content.querySelectorAll<HTMLElement>(FOCUSABLE)];
    const edge = event.shiftKey ? places[0] : places[places.length - 1];
    if (document.activeElement === edge) {
      event.preventDefault();
      event.stopPropagation();
      places[event.shiftKey ? places.length - 1 : 0].focus();
    }
  }

  private get content(): HTMLElement {
    return this.node.querySelector<HTMLElement>('.jp-Dialog-content')!;
  }
}
