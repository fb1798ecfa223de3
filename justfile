# `just` lists the recipes; each is a cargo task, so just itself is optional.
_default:
    @just --list

# The fast part: format, clippy, walls, tidy, version floors, unit tests.
check:
    cargo xtask check

# Everything CI runs; `just test --full` adds the long cases.
test *ARGS:
    cargo xtask test {{ARGS}}

# Measures the server next to others; `just bench --quick` is a first look.
bench *ARGS:
    cargo xtask bench {{ARGS}}
