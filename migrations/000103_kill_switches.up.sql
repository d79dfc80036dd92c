-- A kill switch stops changes, on one carrier or everywhere (carrier ''). A row is an engaged switch.

CREATE TABLE kill_switches (
    carrier text PRIMARY KEY,
    reason  text        NOT NULL,
    by      text        NOT NULL,
    since   timestamptz NOT NULL
);
