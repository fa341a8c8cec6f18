import * as React from 'react';

/**
 * What every element is made with (`jsxFactory` in tsconfig.json): React's own function under a name of ours.
 * A minifier shortens such a name and not that of another module, which saves 14 bytes per element: 9 KB.
 */
export const h = React.createElement;
