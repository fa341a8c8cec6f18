import { LabIcon } from '@jupyterlab/ui-components';

/** Three boxes in a yard: the panel and its tabs. */
export const yardIcon = new LabIcon({
  name: 'modelyard:yard',
  svgstr: `<svg xmlns="http://www.w3.org/2000/svg" width="16" height="16" viewBox="0 0 24 24">
  <g class="jp-icon3 jp-icon-selectable" fill="#616161">
    <path d="M8 3h8v7H8V3zm2 2v3h4V5h-4z"/>
    <path d="M2 12h9v8H2v-8zm2 2v4h5v-4H4z"/>
    <path d="M13 12h9v8h-9v-8zm2 2v4h5v-4h-5z"/>
  </g>
</svg>`
});
