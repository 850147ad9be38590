/** The state of the page: which view is shown, and what is known. Parts of the page subscribe to it. */

/** Holds `state`. `set` merges changes into a new state, and calls each subscriber with it. */
export function createStore(state) {
  const subscribers = [];
  return {
    get: () => state,
    set(changes) {
      state = { ...state, ...changes };
      for (const subscriber of subscribers) subscriber(state);
    },
    subscribe: (subscriber) => subscribers.push(subscriber),
  };
}
