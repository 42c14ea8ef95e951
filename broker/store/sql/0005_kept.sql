-- Messages that are answered and not yet routed, which the next start routes: few, or none.

create index message_kept on message (id) where state = 'received';
