-- Until the end of the transaction no subscription begins, no hold is set, nothing is sealed; who is just doing so is
-- waited for.
lock table ensue.subscriptions, ensue.holds, ensue.seal in share mode
