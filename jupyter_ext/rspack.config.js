// Style sheets are strings in the bundle, which no minifier of scripts makes smaller: this one does, first of all.
module.exports = {
  module: {
    rules: [
      { test: /\.css$/, enforce: 'pre', loader: 'builtin:lightningcss-loader', options: { minify: true } }
    ]
  }
};
