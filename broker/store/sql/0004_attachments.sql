-- What routes took out of messages: each content once, by its SHA-256, as long as a message of the journal refers to it.

create table attachment (
    digest {text} primary key,                  -- hex
    content {blob} not null                     -- as it stood in OBX-5, still encoded
);
create table message_attachment (
    message_id bigint not null,
    digest {text} not null,
    primary key (digest, message_id)
);
