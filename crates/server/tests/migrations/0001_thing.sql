create table thing (
    id integer generated always as identity primary key,
    name text not null constraint thing_name_length check (char_length(name) between 1 and 20),
    email text constraint thing_email_unique unique,
    amount smallint,
    constraint thing_amount_positive check (amount > 0)
);
