# Lists what there is to do.
default:
    @just --list --unsorted

# Everything that must pass before a change lands (the same script that CI runs).
check:
    .ci/run

# Every test; `just test sweep` runs those whose name contains it.
test *FILTER:
    cargo test --release --locked {{ FILTER }}

# The whole system on this machine, until Ctrl-C.
local *ARGS:
    cargo run --release --locked -- local {{ ARGS }}

# One picture from prompt to PNG, on a local system of its own.
demo PROMPT="a lighthouse at dusk":
    cargo run --release --locked -- demo {{ quote(PROMPT) }}

# Measures throughput and CPU per 1,000 jobs, as tables; `just bench quota` measures the use of the keys' quota.
bench *ARGS:
    cargo run --release --locked --bin bench -- {{ ARGS }}

# Users at work while processes are killed and the provider fails, for so many minutes; `just chaos 5 --seed 7` draws the same decisions again.
chaos MINUTES="2" *ARGS:
    cargo run --release --locked --bin chaos -- {{ MINUTES }} {{ ARGS }}

# The functions' binaries as they are deployed, for this machine's processor, in target/lambda.
functions:
    cargo build --locked --profile lambda --package submit --package api --package worker --package sweeper --package notifier --package bulk

# The whole proof: model, every call with every fault, 2,000 seeds, every clause taken out; one table.
proof:
    .ci/proof

# Formats.
fmt:
    cargo fmt --all

# Clippy, warnings as errors.
lint:
    .ci/run lint

# Licences, bans and sources of every dependency.
deny:
    .ci/run deny

# cfn-lint and `sam validate --lint` on infra/template.yaml, for each environment.
template:
    .ci/run template
