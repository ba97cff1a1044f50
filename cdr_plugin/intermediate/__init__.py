"""An intermediate tier without reduction methods: it moves objects unopened and holds no key."""
